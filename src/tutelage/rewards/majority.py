"""The reward `majority`: does an answer agree with most of its group? No gold answer is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import Field

from tutelage.config import Table, build
from tutelage.rewards.answers import AnswerReward
from tutelage.rewards.base import Reward, refuse_idle
from tutelage.rewards.exact import ExactReward
from tutelage.rewards.maths import MathsReward
from tutelage.rewards.numeric import NumericReward
from tutelage.types import Prompt, Sample

_READERS: Final[Mapping[str, type[AnswerReward]]] = {
    "exact": ExactReward,
    "maths": MathsReward,
    "numeric": NumericReward,
}


class MajorityReward(Reward):
    """1 where the answer is the one that most samples of the prompt give, else 0 (TTRL, Zuo et al., 2504.16084).

    Answers are read and compared as the reward `by` does it; one joins the first answer before it that it agrees with.
    A sample without an answer has no vote and gets 0. Of answers with equally many votes the one that was given first
    wins, by the samples' order. Left out of the paper: more samples for the vote than are learned from.
    """

    type: str = "majority"
    by: Table | str = Field(default="numeric")  # a reward's table that reads answers, or just its type

    @property
    def grouped(self) -> bool:
        return True

    def time_limit(self, prompt: Prompt) -> float | None:
        return self._reader().time_limit(prompt)

    def check(self, where: str) -> None:
        reader = self._reader(f"{where}.by")
        refuse_idle(reader, f"{where}.by")
        reader.check(f"{where}.by")

    def prepare(self) -> None:
        self._reader().prepare()

    def demonstrate(self, answer: str) -> str:
        return self._reader().demonstrate(answer)

    def score(self, prompt: Prompt, sample: Sample) -> float:
        return self.score_group(prompt, [sample])[0]

    def score_group(self, prompt: Prompt, samples: Sequence[Sample]) -> list[float]:
        majority = max(camps_of(self._reader(), samples), key=len, default=[])  # the first of the largest
        return [float(place in majority) for place in range(len(samples))]

    def _reader(self, where: str = "by") -> AnswerReward:
        table = {"type": self.by} if isinstance(self.by, str) else self.by
        return build(table, _READERS, AnswerReward, where)


def camps_of(reader: AnswerReward, samples: Sequence[Sample]) -> list[list[int]]:
    """The places of the samples that give the same answer, together, in the order in which the answers first come.

    A sample that gives no answer is in no camp.
    """
    camps: list[list[int]] = []  # the first of each speaks for it
    readings = [reader.reading(sample) for sample in samples]
    for place, reading in enumerate(readings):
        if reading is not None:
            _join(camps, place, readings, reader)
    return camps


def _join(camps: list[list[int]], place: int, readings: Sequence[Any], reader: AnswerReward) -> None:
    for camp in camps:
        if _agree(reader, readings[camp[0]], readings[place]):
            camp.append(place)
            return
    camps.append([place])


def _agree(reader: AnswerReward, one: Any, other: Any) -> bool:
    """Do they? What cannot be compared, as 1/0 with anything, does not; the others' vote is theirs all the same."""
    try:
        return reader.agree(one, other)
    except Exception:  # a library's, over whatever a policy wrote
        return False
