"""The reward `countdown`: does an expression make the target out of the numbers, each used once?"""

from __future__ import annotations

import re
from typing import ClassVar, Final

from tutelage.rewards.answers import AnswerReward
from tutelage.rewards.program import ProgramError, value_of
from tutelage.types import Prompt, Sample

_LONGEST: Final = 200  # characters of an expression that is read
_EXPRESSION: Final = re.compile(r"[-+*() 0-9]+")
_SIGNED: Final = re.compile(r"(?:^|[-+*(])\s*-")  # a number that is made negative would be another number


class CountdownReward(AnswerReward):
    """1 where the answer's last line is such an expression, else 0. It is read by our own reader: nothing is run."""

    isolated: ClassVar[bool] = False

    type: str = "countdown"

    def score(self, prompt: Prompt, sample: Sample) -> float:
        if "numbers" not in prompt.meta or "target" not in prompt.meta:
            raise ValueError(f"prompt {prompt.id!r} comes from no countdown environment")
        line = self.reading(sample)
        if line is None or len(line) > _LONGEST or not _EXPRESSION.fullmatch(line) or _SIGNED.search(line):
            return 0.0
        try:
            value = value_of(line)
        except ProgramError:
            return 0.0
        used = sorted(int(number) for number in re.findall(r"[0-9]+", line))
        return float(value == prompt.meta["target"] and used == sorted(prompt.meta["numbers"]))

    def reading(self, sample: Sample) -> str | None:
        lines = (self.answer_of(sample) or "").strip().splitlines()
        return lines[-1].strip() if lines else None
