"""The reward `regex`: does the text match a pattern?"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

import regex
from pydantic import PositiveFloat, field_validator

from tutelage.rewards.base import Reward
from tutelage.types import Prompt, Sample


class RegexReward(Reward):
    """1 where the pattern is found in the text, else 0. A match that takes too long is a failure."""

    isolated: ClassVar[bool] = False  # the package has a timeout of its own

    type: str = "regex"
    pattern: str  # of the package `regex`; the dot matches line ends too
    whole: bool = False  # the whole text must match
    ignore_case: bool = False
    timeout: PositiveFloat = 1.0  # seconds

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            regex.compile(pattern)
        except regex.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return pattern

    def score(self, prompt: Prompt, sample: Sample) -> float:
        pattern = _compiled(self.pattern, self.ignore_case)
        match = pattern.fullmatch if self.whole else pattern.search
        return float(match(sample.text, timeout=self.timeout) is not None)


@lru_cache(maxsize=64)
def _compiled(pattern: str, ignore_case: bool) -> regex.Pattern[str]:
    return regex.compile(pattern, regex.DOTALL | (regex.IGNORECASE if ignore_case else 0))
