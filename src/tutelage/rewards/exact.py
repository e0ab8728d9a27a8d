"""The reward `exact`: is the answer the right text?"""

from __future__ import annotations

import re
import unicodedata
from typing import ClassVar, Final

from tutelage.rewards.answers import AnswerReward
from tutelage.types import Prompt, Sample

_RAISED: Final = re.compile("[⁰¹²³⁴-⁹₀-₉]")  # NFKC alone makes digits of the line of them
_OF_A_NUMBER: Final = re.compile(r"(?<![\w.])(?:-?\.|-)$")  # what stands before its first digit


class ExactReward(AnswerReward):
    """1 where the answer's text equals the gold one's, else 0. White space and the Unicode form never matter.

    Where they are another answer they do: 4² is not 42, and neither -42 nor 42 % is.
    """

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
        text = " ".join(unicodedata.normalize("NFKC", _RAISED.sub(r"^\g<0>", text)).replace("−", "-").split())
        if self.ignore_case:
            text = text.casefold()
        return _without_punctuation(text) if self.ignore_punctuation else text


def _without_punctuation(text: str) -> str:
    """The text between its first and its last character that is no punctuation; all of it where there is none."""
    first = next((i for i, character in enumerate(text) if not _punctuation(character)), None)
    if first is None:
        return text
    last = next(i for i in range(len(text), 0, -1) if not _punctuation(text[i - 1]))
    if text[first].isdigit() and (before := _OF_A_NUMBER.search(text[:first])):
        first = before.start()
    last += text[last : last + 1] in ("%", "‰")
    return text[first:last].strip()


def _punctuation(character: str) -> bool:
    return unicodedata.category(character).startswith("P")
