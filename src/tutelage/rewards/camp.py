"""The camp of an answer: which of a question's samples give the same one. What maj@k counts; no recipe names it."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.rewards.answers import AnswerReward
from tutelage.rewards.base import Reward
from tutelage.rewards.majority import camps_of
from tutelage.types import Prompt, Sample


class CampReward(Reward):
    """The number of the answer that a sample gives among those of its group, from 0 on; -1 where it gives none.

    It weighs nothing. Answers are read in a worker, like any reward that may hang on them.
    """

    type: str = "camp"
    weight: float = 0.0
    by: AnswerReward  # reads and compares the answers

    @property
    def grouped(self) -> bool:
        return True

    def prepare(self) -> None:
        self.by.prepare()

    def score(self, prompt: Prompt, sample: Sample) -> float:
        return self.score_group(prompt, [sample])[0]

    def score_group(self, prompt: Prompt, samples: Sequence[Sample]) -> list[float]:
        camps = camps_of(self.by, samples)
        camp = {place: float(number) for number, own in enumerate(camps) for place in own}
        return [camp.get(place, -1.0) for place in range(len(samples))]
