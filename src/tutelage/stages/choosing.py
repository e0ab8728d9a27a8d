"""Which answers of a prompt are worth imitating: rules that are applied one by one, and a balance of difficulties."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from statistics import median
from typing import Final

from tutelage.config import RejectionStage, Rule

BINS: Final = 4  # of success rates, of equal width
DISTANCE: Final = 0.3  # of two answers that are different enough


@dataclass(frozen=True, slots=True)
class Answer:
    """One rewarded answer to a prompt, or one whose reward failed."""

    index: int
    text: str
    tokens: int
    cut: bool  # did it run into the limit of tokens?
    reward: float | None
    rewards: Mapping[str, float]
    version: int


def choose(answers: Sequence[Answer], stage: RejectionStage) -> list[Answer]:
    """The answers of one prompt that all rules leave, at most `most`: the better first, then as they were sampled.

    One without a reward, without a word, cut off, or with a NUL character (no data set may hold one) is never chosen.
    """
    whole = [answer for answer in answers if answer.reward is not None and not answer.cut]
    left = [answer for answer in whole if answer.text.strip() and "\0" not in answer.text]
    left = sorted(left, key=lambda answer: (-_worth(answer), answer.index))
    for rule in stage.choose:
        left = _RULES[rule](left, answers, stage) if left else []
    return left[: stage.most]


def success_rate(answers: Sequence[Answer], least: float) -> float | None:
    """The share of the rewarded answers that are correct; None where none was rewarded."""
    rewarded = [answer for answer in answers if answer.reward is not None]
    return sum(_worth(answer) >= least for answer in rewarded) / len(rewarded) if rewarded else None


def balanced(rates: Mapping[str, float], ratio: float, order: Callable[[str], int]) -> set[str]:
    """The prompts to keep so that no quarter of the success rates has more than `ratio` times as many as another.

    Quarters without a prompt do not count.

    Args:
        rates: of each prompt, by id.
        order: by which the ones to keep are taken.
    """
    bins = {name: min(int(rate * BINS), BINS - 1) for name, rate in rates.items()}
    most = int(ratio * min(Counter(bins.values()).values(), default=0))
    kept: set[str] = set()
    for number in set(bins.values()):
        own = sorted((name for name in bins if bins[name] == number), key=order)
        kept.update(own[:most])
    return kept


def _worth(answer: Answer) -> float:
    return answer.reward or 0.0


def _correct(left: list[Answer], _: Sequence[Answer], stage: RejectionStage) -> list[Answer]:
    return [answer for answer in left if _worth(answer) >= stage.least]


def _best(left: list[Answer], _: Sequence[Answer], stage: RejectionStage) -> list[Answer]:
    return left[:1]


def _margin(left: list[Answer], answers: Sequence[Answer], stage: RejectionStage) -> list[Answer]:
    """The best, where it leads by enough over what all answers to the prompt are worth."""
    worth = [answer.reward for answer in answers if answer.reward is not None]
    others = min(worth) if stage.over == "worst" else median(worth)
    return left[:1] if _worth(left[0]) - others >= (stage.margin or 0.0) else []


def _shortest(left: list[Answer], _: Sequence[Answer], stage: RejectionStage) -> list[Answer]:
    return [min(left, key=lambda answer: answer.tokens)]


def _first(left: list[Answer], _: Sequence[Answer], stage: RejectionStage) -> list[Answer]:
    return [min(left, key=lambda answer: answer.index)]


def _diverse(left: list[Answer], _: Sequence[Answer], stage: RejectionStage) -> list[Answer]:
    """One after the other, those that are far enough from all that are kept so far."""
    kept, least = list[Answer](), stage.distance or DISTANCE
    for answer in left:
        if all(_distance(answer.text, other.text) >= least for other in kept):
            kept.append(answer)
    return kept


def _distance(one: str, other: str) -> float:
    """The share of the words of both texts that stand in no common block: 0 for the same, 1 for nothing in common."""
    return 1.0 - SequenceMatcher(None, one.split(), other.split(), autojunk=False).ratio()


_RULES: Final[Mapping[Rule, Callable[[list[Answer], Sequence[Answer], RejectionStage], list[Answer]]]] = {
    "correct": _correct,
    "best": _best,
    "margin": _margin,
    "shortest": _shortest,
    "first": _first,
    "diverse": _diverse,
}
