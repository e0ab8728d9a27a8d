"""The reward `exact`: is the answer the right text?"""

from __future__ import annotations

import unicodedata
from typing import ClassVar

from tutelage.rewards.answers import AnswerReward
from tutelage.types import Prompt, Sample


class ExactReward(AnswerReward):
    """1 where the answer's text equals the gold one's, else 0. White space and the Unicode form never matter."""

    isolated: ClassVar[bool] = False

    type: str = "exact"
    ignore_case: bool = True
    ignore_punctuation: bool = True  # around the answer, as in "Paris." or '"Paris"'

    def score(self, prompt: Prompt, sample: Sample) -> float:
        gold, text = self._normal(self.gold_of(prompt)), self.answer_of(sample)
        return float(text is not None and self._normal(text) == gold)

    def reading(self, sample: Sample) -> str | None:
        return self._normal(self.answer_of(sample) or "") or None

    def _normal(self, text: str) -> str:
        text = " ".join(unicodedata.normalize("NFKC", text).split())
        if self.ignore_case:
            text = text.casefold()
        return _without_punctuation(text) if self.ignore_punctuation else text


def _without_punctuation(text: str) -> str:
    """The text between its first and its last character that is no punctuation; all of it where there is none."""
    kept = [i for i, character in enumerate(text) if not unicodedata.category(character).startswith("P")]
    return text[kept[0] : kept[-1] + 1].strip() if kept else text
