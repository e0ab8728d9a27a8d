"""The reward `numeric`: is the answer the right number?"""

from __future__ import annotations

import re
from decimal import Decimal, localcontext
from typing import ClassVar

from pydantic import NonNegativeFloat

from tutelage.rewards.answers import AnswerReward
from tutelage.types import Prompt, Sample

# A sign counts only where no word, number or bracket stands before it: "12-7" ends in 7, "= -7" in -7. Commas count
# only between groups of three digits: "1,234" is one number, "1, 2" two.
_NUMBER = re.compile(
    r"(?:(?<![\w.)\]}])(?P<sign>[-+−])\$?)?"
    r"(?P<digits>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
    r"(?P<power>[eE][-+]?[0-9]{1,4}(?![0-9]))?"
)


class NumericReward(AnswerReward):
    """1 where the last number of the answer equals the last number of the gold answer, else 0."""

    isolated: ClassVar[bool] = False

    type: str = "numeric"
    strict: bool = False  # the answer must be the number and nothing else, but for spaces and a final full stop
    tolerance: NonNegativeFloat = 0.0  # how far off the answer may be

    def score(self, prompt: Prompt, sample: Sample) -> float:
        gold = last_number(self.gold_of(prompt))
        if gold is None:
            raise ValueError(f"the gold answer of prompt {prompt.id!r} holds no number: {prompt.answer!r}")
        given = self.reading(sample)
        return float(given is not None and self.agree(given, gold))

    def reading(self, sample: Sample) -> Decimal | None:
        text = self.answer_of(sample)
        if text is None:
            return None
        return whole_number(text) if self.strict else last_number(text)

    def agree(self, one: Decimal, other: Decimal) -> bool:
        if self.tolerance == 0.0:
            return one == other  # exact, whatever their length
        with localcontext() as context:
            context.clear_traps()  # a difference out of range is infinite, not an error
            return abs(one - other) <= Decimal(self.tolerance)


def last_number(text: str) -> Decimal | None:
    """The last number in a text, exactly, or None."""
    last = None
    for match in _NUMBER.finditer(text):
        last = match
    return None if last is None else _value(last)


def whole_number(text: str) -> Decimal | None:
    """The number that a text is, or None where it is anything more."""
    match = _NUMBER.fullmatch(text.strip().removesuffix("."))
    return None if match is None else _value(match)


def _value(match: re.Match[str]) -> Decimal:
    sign = "-" if match["sign"] in ("-", "−") else ""
    return Decimal(sign + match["digits"].replace(",", "") + (match["power"] or ""))
