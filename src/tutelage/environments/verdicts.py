"""The environment `verdicts`: which of two answers is better? A generative judge is trained on it like on any task."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from pydantic import PositiveInt

from tutelage.config import Table
from tutelage.data import build_judged_source
from tutelage.data.preferences import Judged
from tutelage.environments.base import Environment
from tutelage.rewards import Reward
from tutelage.rewards.verdict import compared, verdict_of
from tutelage.seeds import derive_seed
from tutelage.types import Message, Prompt, Sample, Split


class VerdictReward(Reward):
    """1 where the last verdict, [[A]] or [[B]], is the gold one; 0 for the other, for a tie, and for none."""

    isolated: ClassVar[bool] = False

    type: str = "verdict"

    def demonstrate(self, answer: str) -> str:
        return f"[[{answer}]]"

    def score(self, prompt: Prompt, sample: Sample) -> float:
        return float(prompt.answer is not None and verdict_of(sample.text) == prompt.answer)


class Verdicts(Environment):
    """Pairs of judged answers, shown as a judge sees them; right is what people preferred.

    Mahan et al., 2024, *Generative Reward Models* (2410.12832): the model reasons, then names the better answer, and is
    reinforced for agreeing. Which side the better one stands on is drawn for each pair: a side cannot be learned.
    """

    type: str = "verdicts"
    train: Table  # a source of judged answers
    test: Table
    rubric: str | None = None  # what makes an answer good, in words
    pairs_per_prompt: PositiveInt = 1  # those that were judged farthest apart
    seed: int = 0  # of the sides

    def check(self, where: str) -> None:
        build_judged_source(self.train, f"{where}.train")
        build_judged_source(self.test, f"{where}.test")

    def prompts(self, split: Split) -> Sequence[Prompt]:
        return self._splits[split]

    def scorer(self) -> Reward:
        return VerdictReward()

    @cached_property
    def _splits(self) -> dict[Split, list[Prompt]]:
        tables: dict[Split, Table] = {"train": self.train, "test": self.test}
        return {
            split: [
                self._prompt(judged, better, worse, number)
                for judged in build_judged_source(table, split).load_judged()
                for number, (better, worse, _) in enumerate(
                    sorted(judged.pairs(), key=lambda pair: -pair[2])[: self.pairs_per_prompt]
                )
            ]
            for split, table in tables.items()
        }

    def _prompt(self, judged: Judged, better: int, worse: int, number: int) -> Prompt:
        swapped = derive_seed(self.seed, judged.id, number) % 2 == 1
        first, second = (judged.answers[place] for place in ((worse, better) if swapped else (better, worse)))
        text = compared(judged.prompt, first, second, self.rubric)
        return Prompt(f"{judged.id}#{number}", (Message("user", text),), answer="B" if swapped else "A")
