"""The reward `format`: is the text thinking, then an answer, each in its tags, and nothing else?"""

from __future__ import annotations

import re
from typing import ClassVar, Self

from pydantic import model_validator

from tutelage.rewards.answers import Tag
from tutelage.rewards.base import Reward
from tutelage.types import Prompt, Sample


class FormatReward(Reward):
    """1 where the text is exactly `<think>...</think><answer>...</answer>`, else 0 (DeepSeek-R1, 2501.12948, 2.2.2).

    White space may stand around the tags. Neither part may be empty, nor hold a tag: each tag stands once.
    """

    isolated: ClassVar[bool] = False

    type: str = "format"
    think: Tag = "think"
    answer: Tag = "answer"

    @model_validator(mode="after")
    def _tags_differ(self) -> Self:
        if self.think == self.answer:
            raise ValueError("think and answer must be different tags")
        return self

    def score(self, prompt: Prompt, sample: Sample) -> float:
        think, unthink, answer, unanswer = tags = (
            f"<{self.think}>",
            f"</{self.think}>",
            f"<{self.answer}>",
            f"</{self.answer}>",
        )
        if any(sample.text.count(tag) != 1 for tag in tags):
            return 0.0
        shape = rf"\s*{think}(.*){unthink}\s*{answer}(.*){unanswer}\s*"
        match = re.fullmatch(shape, sample.text, re.DOTALL)
        return float(match is not None and all(part.strip() for part in match.groups()))
