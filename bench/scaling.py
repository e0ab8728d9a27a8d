"""(e) How our step grows: completions, prompt length and completion length doubled three times each from one base, then
the micro-batch at one size. A fresh process for each point. Memory must follow the micro-batch, not the batch."""

from __future__ import annotations

from collections.abc import Iterator

from bench.alternate import Program, alternate
from bench.compare import Row, markdown
from bench.grpo import Case
from bench.settings import Settings

BUDGET = 1024  # tokens a micro-batch


def points(settings: Settings) -> Iterator[tuple[str, Case, int]]:
    """What is doubled, the sizes, and the micro-batch."""
    prompt, completions, new = (4, 2, 4) if settings.quick else (32, 8, 32)
    doublings = [2**i for i in range(settings.size(4, 2))]
    for by in doublings:
        yield "completions", Case(f"{completions * by} completions", 4, prompt, completions * by, new), BUDGET
    for by in doublings:
        yield "prompt", Case(f"prompts of {prompt * by}", 4, prompt * by, completions, new), BUDGET
    for by in doublings:
        yield "length", Case(f"{new * by} new tokens", 4, prompt, completions, new * by), BUDGET
    largest = completions * doublings[-1]
    for by in doublings:
        budget = BUDGET * by // 2
        yield "micro-batch", Case(f"{budget} tokens a micro-batch", 4, prompt, largest, new), budget


def run(settings: Settings) -> Iterator[Row]:
    for doubled, case, budget in points(settings):
        if not settings.wants(case.name):
            continue
        program = Program("ours", "bench.ours.grpo", case.spec(settings, budget))
        (alone,) = alternate([program], settings.steps, settings.warmup)
        yield {**case.sizes(settings), "doubled": doubled, "tokens_per_microbatch": budget, "ours": alone.result()}


def show(rows: list[Row]) -> str:
    header = ["doubled", "case", "tokens a step", "micro-batch", "step s", "sampling s", "learning s", "peak GB"]
    return markdown(
        header,
        [
            [
                row["doubled"],
                row["case"],
                row["prompts"] * (row["prompt_tokens"] + row["completions"] * row["new_tokens"]),
                row["tokens_per_microbatch"],
                row["ours"]["median_seconds"],
                row["ours"]["phases"]["generate_seconds"],
                row["ours"]["phases"]["learn_seconds"],
                row["ours"]["peak_gb"],
            ]
            for row in rows
        ],
    )
