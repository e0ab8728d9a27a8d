"""(f) Do rewards reach the same values? GRPO on our arithmetic questions, ours and TRL, three seeds, equal settings.

The same questions, rewards, batch, rate, loss, clip, temperature and length; no KL, constant rate. TRL with its default
precision, autocast over fp32 weights, which is the nearest to ours (bf16 with fp32 masters); its allocator is tuned and
activations are kept, which changes its time and not its numbers. The order of the questions and the noise differ.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterator, Sequence

from bench.alternate import Program, alternate
from bench.compare import Row, markdown
from bench.inputs import sums_spec
from bench.settings import Settings, Variant

SEEDS = (0, 1, 2)
LAST = 10  # steps whose mean is compared
PEER = Variant("autocast", tuned=True, gradient_checkpointing=False)
# Student's t at 97.5 %, for 1 to 8 degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306)


def run(settings: Settings) -> Iterator[Row]:
    steps = settings.size(20, 3)
    spec = sums_spec(settings)
    for seed in SEEDS[: settings.size(3, 2)]:
        if not settings.wants(f"seed {seed}"):
            continue
        print(f"  seed {seed}", file=sys.stderr, flush=True)
        seeded = {**spec, "seed": seed}
        programs = [Program("ours", "bench.ours.grpo", seeded)]
        if settings.peer:
            programs.append(PEER.program("bench.peer.grpo", seeded, settings.peer))
        running = alternate(programs, steps, warmup=0)
        row: Row = {"case": f"seed {seed}"}
        for side, one in zip(("ours", "peer"), running, strict=False):
            row[side] = {**one.result(), "rewards": [round(step["reward"], 4) for step in one.steps]}
        yield row


def show(rows: list[Row]) -> str:
    """Mean and range over the seeds, five steps together, then the difference of the last steps."""
    sides = [side for side in ("ours", "peer") if side in rows[0]]
    curves = {side: [row[side]["rewards"] for row in rows] for side in sides}
    header = ["steps", *[f"{side}: mean (least to most)" for side in sides]]
    lines: list[list[object]] = []
    overlapping = 0
    total = len(curves["ours"][0])
    for start in range(0, total, 5):
        bands = {side: [statistics.mean(curve[start : start + 5]) for curve in curves[side]] for side in sides}
        shown = [f"{statistics.mean(b):.3f} ({min(b):.3f} to {max(b):.3f})" for b in bands.values()]
        lines.append([f"{start + 1} to {min(start + 5, total)}", *shown])
        if len(sides) == 2:
            overlapping += min(bands["ours"]) <= max(bands["peer"]) and min(bands["peer"]) <= max(bands["ours"])
    parts = [markdown(header, lines)]
    if len(sides) == 2:
        last = [[statistics.mean(curve[-LAST:]) for curve in curves[side]] for side in sides]
        gap, half = difference(*last)
        verdict = "holds 0: no difference is shown" if abs(gap) <= half else "leaves out 0: they differ"
        parts.append(
            f"The bands overlap in {overlapping} of {len(lines)} stretches. Mean of the last {min(LAST, total)} steps, "
            f"ours less the peer's: {gap:+.3f}, 95 % interval {gap - half:+.3f} to {gap + half:+.3f} (Welch, "
            f"{len(rows)} seeds a side), which {verdict}."
        )
    return "\n\n".join(parts)


def difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """The difference of two means and half its 95 % interval (Welch, 1947; degrees of freedom rounded down)."""
    gap = statistics.mean(first) - statistics.mean(second)
    parts = [statistics.variance(values) / len(values) for values in (first, second)]
    if not sum(parts):
        return gap, 0.0
    freedom = sum(parts) ** 2 / sum(part**2 / (len(v) - 1) for part, v in zip(parts, (first, second), strict=True))
    return gap, _T[min(len(_T), max(1, math.floor(freedom))) - 1] * math.sqrt(sum(parts))
