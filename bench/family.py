"""(h) Our algorithms beside each other on a language model: reward at equal samples, seconds and memory.

GRPO, PPO whose critic is a model of its own or a head on the policy's body, DAPO and TRPO, on the curves' arithmetic
questions. DAPO asks further prompts in place of those whose answers all earned the same, and they count as samples.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from bench.alternate import Program, alternate
from bench.compare import Row, markdown
from bench.inputs import sums_spec
from bench.settings import Settings

SEEDS = (0, 1, 2)
_CRITIC = {"lr": 5e-5}
_REGION = {"iterations": 5, "curvature_share": 0.25}
CASES: dict[str, dict[str, Any]] = {
    "GRPO": {"algorithm": {"type": "grpo"}},  # with the anchor of its paper
    "PPO, critic a model": {"algorithm": {"type": "ppo", "critic": {**_CRITIC, "kind": "model"}}},
    "PPO, critic a head": {"algorithm": {"type": "ppo", "critic": {**_CRITIC, "kind": "head"}}},
    "DAPO": {"algorithm": {"type": "dapo"}, "stage": {"refills": 8}, "steps": 10},  # later too few prompts can teach
    "TRPO": {
        "algorithm": {"type": "trpo", "baseline": "group", "region": _REGION},
        "tokens_per_microbatch": 512,
        "seeds": (0,),  # half an hour each
    },
}


def run(settings: Settings) -> Iterator[Row]:
    spec = sums_spec(settings)
    for name, case in CASES.items():
        seeds = case.get("seeds", SEEDS) if settings.wants(name) else ()
        for seed in seeds[: settings.size(len(SEEDS), 1)]:
            print(f"  {name}, seed {seed}", file=sys.stderr, flush=True)
            program = Program("ours", "bench.ours.grpo", {**spec, **case, "seed": seed})
            (one,) = alternate([program], settings.size(case.get("steps", 20), 2), warmup=0)
            told = {key: [step[key] for step in one.steps] for key in ("reward", "groups")}
            told["moved"] = [step["moved"] for step in one.steps if "refused" in step]  # a bound's, and no estimate
            result = one.result()
            # The first step compiles and fills caches; the memory is the whole process's.
            row = {"case": name, "seed": seed, "completions": spec["completions"], **told}
            yield {**row, "step_seconds": statistics.median(result["seconds"][1:]), "peak_gb": result["peak_gb"]}


def show(rows: list[Row]) -> str:
    """The mean reward in quarters of the most samples that an algorithm has taken, as far as each went; and costs."""
    names = list(dict.fromkeys(row["case"] for row in rows))
    budget = max(row["completions"] * sum(row["groups"]) for row in rows)
    quarters = [round(budget * i / 4) for i in range(5)]
    stretches = [f"samples {a + 1} to {b}" for a, b in pairwise(quarters)]
    header = ["algorithm", "seeds", *stretches, "step s", "samples/s", "peak GB", "KL a step: mean (most)"]
    lines: list[list[object]] = []
    for name in names:
        mine = [row for row in rows if row["case"] == name]
        cells: list[object] = []
        for begin, end in pairwise(quarters):
            means = [_mean_between(row, begin, end) for row in mine]
            reached = [mean for mean in means if mean is not None]
            cells.append(
                f"{statistics.mean(reached):.2f} ({min(reached):.2f} to {max(reached):.2f})" if reached else "-"
            )
        seconds = statistics.median(row["step_seconds"] for row in mine)
        samples = statistics.mean(row["completions"] * statistics.mean(row["groups"]) for row in mine)
        moved = [value for row in mine for value in row["moved"]]
        kl = f"{statistics.mean(moved):.4f} ({max(moved):.4f})" if moved else "-"
        lines.append([name, len(mine), *cells, seconds, samples / seconds, max(r["peak_gb"] for r in mine), kl])
    return markdown(header, lines)


def _mean_between(row: Row, begin: int, end: int) -> float | None:
    """The mean reward of the samples from `begin` to `end`, as many as there are; a step's samples share its mean."""
    taken, total, weight = 0.0, 0.0, 0.0
    for reward, groups in zip(row["reward"], row["groups"], strict=True):
        samples = groups * row["completions"]
        inside = max(0.0, min(end, taken + samples) - max(begin, taken))
        total, weight, taken = total + reward * inside, weight + inside, taken + samples
    return total / weight if weight else None
