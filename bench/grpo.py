"""(a) A GRPO step against TRL's: sample, reward, learn. One update on-policy, no KL, fixed lengths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.alternate import Program
from bench.compare import Row, compare, markdown, ratio, table
from bench.inputs import model_folder, prompts
from bench.settings import BOTH, EVERY, MODEL, SHIPPED, Settings, Variant


@dataclass(frozen=True, slots=True)
class Case:
    """A step's sizes. All prompts are equally long: padding costs the peer nothing."""

    name: str
    prompts: int
    prompt_tokens: int
    completions: int
    new_tokens: int
    model: str = MODEL
    variants: tuple[Variant, ...] = BOTH
    activation_checkpointing: bool = False  # ours; the peer's is its variant's

    @property
    def tokens(self) -> int:
        """Written in a step."""
        return self.prompts * self.completions * self.new_tokens

    def spec(self, settings: Settings, tokens_per_microbatch: int = 4096) -> dict[str, Any]:
        """What both programs read."""
        folder = model_folder(settings.model(self.model))
        return {
            "model": str(folder),
            "prompts": prompts(folder, self.prompts, self.prompt_tokens),
            "prompts_per_step": self.prompts,
            "completions": self.completions,
            "new_tokens": self.new_tokens,
            "fixed_length": True,
            "reward": "vowels",
            "lr": 1e-6,
            "seed": 0,
            "compute": "auto",
            "activation_checkpointing": self.activation_checkpointing,
            "tokens_per_microbatch": tokens_per_microbatch,
        }

    def sizes(self, settings: Settings) -> dict[str, Any]:
        """What a result keeps of it."""
        return {
            "case": self.name,
            "model": settings.model(self.model),
            "prompts": self.prompts,
            "prompt_tokens": self.prompt_tokens,
            "completions": self.completions,
            "new_tokens": self.new_tokens,
        }


CASES = (
    Case("4 x 8 x 64, prompts of 40", 4, 40, 8, 64, variants=EVERY),
    Case("4 x 8 x 64, prompts of 40, checkpointed", 4, 40, 8, 64, variants=SHIPPED, activation_checkpointing=True),
    Case("4 x 8 x 64, prompts of 256", 4, 256, 8, 64),
    Case("4 x 8 x 128, prompts of 64", 4, 64, 8, 128),
    Case("3M parameters, 32 x 8 x 32, prompts of 14", 32, 14, 8, 32, "llama-3m", EVERY),
)
QUICK = (Case("2 x 4 x 99, prompts of 5", 2, 5, 4, 99),)


def run(settings: Settings) -> Iterator[Row]:
    for case in QUICK if settings.quick else CASES:
        spec = case.spec(settings)
        ours = Program("ours", "bench.ours.grpo", spec)
        peers = [variant.program("bench.peer.grpo", spec, settings.peer) for variant in case.variants if settings.peer]
        yield from compare(case.sizes(settings), ours, peers, settings, tokens=case.tokens)


def show(rows: list[Row]) -> str:
    """The steps, then where their time goes."""
    header = ["case", "peer", "sampling: ours s", "peer s", "times", "the rest: ours s", "peer s", "times"]
    phases: list[list[object]] = []
    for row in rows:
        if "peer" not in row or "failed" in row:
            continue
        sampled = [row[side]["phases"]["generate_seconds"] for side in ("ours", "peer")]
        rest = [row[side]["median_seconds"] - s for side, s in zip(("ours", "peer"), sampled, strict=True)]
        name = row["peer"]["name"].removeprefix("peer: ")
        phases.append([row["case"], name, *sampled, sampled[1] / sampled[0], *rest, rest[1] / rest[0]])
    best = _best(rows)
    return "\n\n".join([table(rows, "tokens"), *([markdown(header, phases)] if phases else []), *best])


def _best(rows: list[Row]) -> list[str]:
    """For each case, what is left against the peer's quickest variant, as shipped and tuned."""
    lines: list[str] = []
    for case in dict.fromkeys(row["case"] for row in rows):
        whole = [row for row in rows if row["case"] == case and "peer" in row and "failed" not in row]
        for words, tuned in (("as shipped", False), ("allocator tuned", True)):
            of = [row for row in whole if ("tuned" in row["peer"]["name"]) == tuned]
            if of:
                quickest = min(of, key=lambda row: row["peer"]["median_seconds"])
                name = quickest["peer"]["name"].removeprefix("peer: ")
                lines.append(f"- {case}: {ratio(quickest):.2f} times the peer's best {words} ({name})")
    return ["\n".join(lines)] if lines else []
