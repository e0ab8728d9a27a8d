"""How far `tutelage check --plan` is off: each case is planned, then run, each in a process of its own.

python -m bench.planning [--only 135M]

Prints one JSON object for each case, then the table of docs/planning.md. Peak memory is the most that the run's process
held; a step's time is the median over its steps but the first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from tutelage.rewards import Reward
from tutelage.types import Prompt, Sample

_STEPS = 6
_SIZES = {  # width, layers, heads; None: the real one
    "2M": (128, 6, 4),
    "25M": (512, 8, 8),
    "135M": None,
}


@dataclass(frozen=True, slots=True)
class Case:
    """A model's size, a method, and how long its sequences are."""

    size: str
    method: str
    length: int  # sft, dpo: tokens of an answer, about; rl: the most new tokens
    count: int  # sequences, or prompts, of a step

    @property
    def name(self) -> str:
        return f"{self.size} {self.method} {self.length}"


class Scattered(Reward):
    """Another number for every text: no group of answers teaches nothing, whatever the model writes."""

    type: str = "bench.planning:Scattered"

    def score(self, prompt: Prompt, sample: Sample) -> float:
        return zlib.crc32(sample.text.encode()) / 2**32


def cases() -> list[Case]:
    return [
        Case(size, method, length, count)
        for size in _SIZES
        for method, length, count in (
            ("sft", 50, 16),
            ("sft", 400, 8),
            ("dpo", 50, 8),
            ("dpo", 200, 4),
            ("rl", 12, 8),
            ("rl", 96, 4),
        )
    ]


def recipe_of(case: Case, model: str, folder: Path) -> str:
    """The recipe of one case, with its data beside it."""
    head = f'name = "plan"\nmodel = "{model}"\n[environments.sums]\ntype = "arithmetic"\n\n[[stage]]\n'
    talks, pairs = (f'source = {{ type = "jsonl", path = "{folder}/{name}.jsonl" }}' for name in ("talks", "pairs"))
    body = {
        "sft": f'type = "sft"\n{talks}\nsequences_per_step = {case.count}',
        "dpo": f'type = "preference"\n{pairs}\nprompts_per_step = {case.count}',
        "rl": (
            'type = "rl"\nenvironment = "sums"\nrewards = [{ type = "bench.planning:Scattered" }]\n'
            f"prompts_per_step = {case.count}\ncompletions_per_prompt = 8\n"
            f'algorithm = {{ type = "grpo", kl = 0.01 }}\nsampling = {{ max_new_tokens = {case.length} }}'
        ),
    }[case.method]
    return f'{head}name = "learn"\n{body}\nsteps = {_STEPS}\ncheckpoints = {{ every = {_STEPS} }}\n'


def write_data(case: Case, folder: Path) -> None:
    """Conversations and judged pairs of about that many tokens an answer, no two alike."""

    def words(seed: int) -> str:
        spread = case.length * (3 + seed % 3) // 4  # some shorter, some longer
        return " ".join(str((seed * 7919 + i * 104729) % 10) for i in range(spread // 2))

    talks, pairs = [], []
    for number in range(64):
        asked = f"Write down some digits, number {number}."
        talks.append({"prompt": asked, "completion": words(number)})
        pairs.append({"prompt": asked, "chosen": words(number), "rejected": words(number + 1000)})
    for name, rows in (("talks", talks), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def made_model(size: str, folder: Path) -> str:
    """A model of random weights of that size, or the name of the real one."""
    shape = _SIZES[size]
    if shape is None:
        return "smollm2-135m-instruct"
    width, layers, heads = shape
    text = folder / "text.txt"
    text.write_text("\n\n".join(f"{a} and {b} are {a + b}, say the books." for a in range(60) for b in range(60)))
    recipe = folder / "make.toml"
    recipe.write_text(
        'name = "make"\n[[stage]]\nname = "make"\ntype = "pretrain"\n'
        "steps = 1\ncontext = 1024\ntokens_per_step = 1024\n"
        f'source = {{ type = "text", path = "{text}" }}\ntokenizer = {{ vocabulary = 4096 }}\n'
        f"architecture = {{ width = {width}, layers = {layers}, heads = {heads} }}\n"
    )
    tutelage("run", str(recipe), "--out", str(folder / "made"))
    return str(next((folder / "made").glob("stages/*make/model")))


def tutelage(*words: str) -> int:
    """Runs a command, and returns the most bytes that its process held."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tutelage", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"tutelage {' '.join(words)}:\n{said}")
    return usage.ru_maxrss << 10


def measured(case: Case, model: str, folder: Path) -> dict[str, object]:
    """A case planned, and run."""
    write_data(case, folder)
    recipe, plan, run = folder / "recipe.toml", folder / "plan.json", folder / "run"
    recipe.write_text(recipe_of(case, model, folder))
    tutelage("check", str(recipe), "--plan", "--json", str(plan))
    (told,) = json.loads(plan.read_text())
    peak = tutelage("run", str(recipe), "--out", str(run))
    steps = [json.loads(line)["step_seconds"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    seconds = statistics.median(steps[1:])
    return {
        "case": case.name,
        "predicted_gb": told["peak_bytes"] / 1e9,
        "peak_gb": peak / 1e9,
        "memory_error": told["peak_bytes"] / peak - 1,
        "predicted_s": told["step_seconds"],
        "step_s": seconds,
        "steps_s": steps,
        "time_error": told["step_seconds"] / seconds - 1,
        "memory": told["memory_bytes"],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="cases whose name holds this")
    only = parser.parse_args().only
    found: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as temporary:
        models: dict[str, str] = {}
        for number, case in enumerate(case for case in cases() if only in case.name):
            folder = Path(temporary) / str(number)
            folder.mkdir()
            if case.size not in models:
                own = Path(temporary) / case.size
                own.mkdir()
                models[case.size] = made_model(case.size, own)
            found.append(measured(case, models[case.size], folder))
            print(json.dumps(found[-1]), flush=True)
    print("\n| case | GB, planned | run | off by | s a step, planned | run | off by |\n|---|---|---|---|---|---|---|")
    for one in found:
        print(
            f"| {one['case']} | {one['predicted_gb']:.2f} | {one['peak_gb']:.2f} | {one['memory_error']:+.0%} "
            f"| {one['predicted_s']:.3g} | {one['step_s']:.3g} | {one['time_error']:+.0%} |"
        )


if __name__ == "__main__":
    main()
