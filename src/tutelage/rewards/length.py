"""The reward `length`: is the completion as long as it should be?"""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import PositiveInt, model_validator

from tutelage.rewards.base import Reward
from tutelage.types import Prompt, Sample


class LengthReward(Reward):
    """1 for a completion of `target` tokens, or of at most `maximum`; falls linearly to 0 over `falloff` tokens.

    The end token counts, as the model wrote it.
    """

    isolated: ClassVar[bool] = False

    type: str = "length"
    target: PositiveInt | None = None  # tokens; off by n is worth 1 - n / falloff
    maximum: PositiveInt | None = None  # tokens; n more are worth 1 - n / falloff
    falloff: PositiveInt | None = None  # tokens; None: as many as target or maximum

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.target is None) == (self.maximum is None):
            raise ValueError("give either target or maximum")
        return self

    def score(self, prompt: Prompt, sample: Sample) -> float:
        tokens = len(sample.tokens)
        wanted = self.target or self.maximum or 0
        off = abs(tokens - wanted) if self.target else max(0, tokens - wanted)
        return max(0.0, 1.0 - off / (self.falloff or wanted))
