"""The reward `maths`: is the answer mathematically equal to the gold one? By math-verify, behind guards."""

from __future__ import annotations

import logging
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat

from tutelage.errors import MissingExtraError
from tutelage.rewards.answers import AnswerReward
from tutelage.rewards.latex import last_box, refusal
from tutelage.types import Prompt, Sample

if TYPE_CHECKING:
    from sympy import Basic, MatrixBase


class MathsReward(AnswerReward):
    r"""1 where the last `\boxed{...}` is equal to the gold answer, else 0.

    math-verify 0.9 by itself accepts `\boxed{41=42}` and `42 41 40 39` for 42, and can be kept busy for minutes: so
    one box is read and nothing around it, guards refuse what is no honest answer, and the worker can be killed.
    An expression that has the right value is right: `\boxed{40+2}` is 42. Where that is no answer, take `numeric`.
    """

    type: str = "maths"
    unboxed: Literal["wrong", "whole"] = "wrong"  # an answer without a box is wrong; or is read as a whole
    timeout: PositiveFloat = 1.0  # seconds; an answer that takes longer is a failure, and its worker is replaced

    def time_limit(self, prompt: Prompt) -> float:
        return self.timeout

    def check(self, where: str) -> None:
        if find_spec("math_verify") is None:
            raise MissingExtraError("math-verify", "maths", f"{where}: the reward 'maths'")

    def demonstrate(self, answer: str) -> str:
        boxed = answer if last_box(answer) is not None else rf"\boxed{{{_bare(answer)}}}"
        return super().demonstrate(boxed)

    def prepare(self) -> None:
        logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own timeout is off
        _parse("1")

    def score(self, prompt: Prompt, sample: Sample) -> float:
        answer, full_gold = self.reading(sample), self.gold_of(prompt)
        boxed_gold = last_box(full_gold)
        gold = _bare(full_gold if boxed_gold is None else boxed_gold)
        if not answer:
            return 0.0
        if answer == gold:
            return 1.0
        wanted = _parse(gold)
        if not wanted:
            raise ValueError(f"the gold answer of prompt {prompt.id!r} cannot be read as mathematics: {gold!r}")
        return 0.0 if refusal(answer, gold) else _equal(wanted, answer)

    def reading(self, sample: Sample) -> str | None:
        text = self.answer_of(sample)
        return None if text is None else self._expression(text) or None

    def agree(self, one: str, other: str) -> bool:
        if one == other:
            return True
        if refusal(one, other) or refusal(other, one):
            return False
        wanted = _parse(one)
        return bool(wanted) and _equal(wanted, other) == 1.0

    def _expression(self, text: str) -> str | None:
        boxed = last_box(text)
        if boxed is not None or self.unboxed == "wrong":
            return boxed if boxed is None else _bare(boxed)
        whole = _bare(text)
        return None if "$" in whole or "boxed" in whole else whole


def _bare(text: str) -> str:
    """An expression without the dollars or brackets that set it in a text."""
    text = text.strip()
    for opening, closing in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if len(text) >= len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing):
            return text[len(opening) : -len(closing)].strip()
    return text


@lru_cache(maxsize=1024)  # a group's samples share their gold answer
def _parse(expression: str) -> tuple[Basic | MatrixBase | str, ...]:
    from math_verify import LatexExtractionConfig, parse

    return tuple(
        parse(
            rf"\boxed{{{expression}}}",
            [LatexExtractionConfig(boxed_match_priority=0)],
            fallback_mode="no_fallback",
            extraction_mode="first_match",
            parsing_timeout=None,  # type: ignore[arg-type]  # it uses SIGALRM; a hung worker is killed instead
        )
    )


def _equal(gold: tuple[Basic | MatrixBase | str, ...], answer: str) -> float:
    from math_verify import verify

    given = _parse(answer)
    return float(bool(given) and verify(list(gold), list(given), timeout_seconds=None, raise_on_error=True))
