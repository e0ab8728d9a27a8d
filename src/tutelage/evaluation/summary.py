"""An evaluation in four numbers, and the change between two of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tutelage.errors import FailedSamplesError
from tutelage.evaluation.intervals import Floats, bootstrap_mean, bootstrap_ratio, paired_share_difference, wilson
from tutelage.evaluation.many import SIGNIFICANT, detectable, holm, questions_needed
from tutelage.evaluation.paired import mcnemar, sign_flip

Scores = Mapping[str, Sequence[float | None]]
"""The scores of every question's samples; None where scoring failed."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The mean score over questions with its 95 % interval.

    | Field | Meaning |
    |---|---|
    | mean | mean over questions of the mean over their scored samples |
    | low, high | 95 % interval: Wilson for right or wrong, else a bootstrap; None for a single question |
    | n | questions with at least one scored sample |
    | failed | samples that could not be scored; they are left out, not counted as wrong |
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    failed: int

    @property
    def numbers(self) -> dict[str, Any]:
        """What a stage's result keeps of it."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "n": self.n}

    @classmethod
    def of(cls, numbers: Mapping[str, Any]) -> Summary:
        """From what a stage's result kept."""
        return cls(numbers["mean"], numbers["low"], numbers["high"], numbers["n"], 0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The change of the mean score on the questions that both evaluations have, with its 95 % interval.

    | Field | Meaning |
    |---|---|
    | difference | the mean over questions of the change |
    | low, high | its 95 % interval, of this change by itself; None for a single question |
    | p_value | of no change; after `corrected`, adjusted for the number of changes that are told beside it |
    | n | questions that both have |
    | test | what it was tested by |
    | deviation | standard deviation of one question's change |
    | tests | how many were corrected together |
    """

    difference: float
    low: float | None
    high: float | None
    p_value: float
    n: int
    test: str
    deviation: float = 0.0
    tests: int = 1

    @property
    def measurable(self) -> bool:
        """Is there more than noise?"""
        return self.p_value < SIGNIFICANT

    @property
    def detectable(self) -> float:
        """A change smaller than this would be missed more often than 1 time in 5."""
        return detectable(self.deviation, self.n, self.tests, counted=self.test == MCNEMAR)

    def needed(self, change: float) -> int:
        """How many questions it would take to find a change of this size 4 times in 5."""
        return questions_needed(change, self.deviation, self.tests)


MCNEMAR = "McNemar"
PERMUTATION = "paired permutation test"


def corrected(comparisons: Sequence[Comparison | None]) -> list[Comparison | None]:
    """The same with p-values adjusted for their number (Holm): of all that are told together."""
    told = [one for one in comparisons if one is not None]
    adjusted = iter(holm([one.p_value for one in told]))
    return [one and replace(one, p_value=next(adjusted), tests=len(told)) for one in comparisons]


def valid(given: Sequence[float | None]) -> list[float]:
    """The scores of the samples that were scored."""
    values = [float(value) for value in given if value is not None]
    if not all(map(math.isfinite, values)):
        raise ValueError(f"a score is not finite: {values}; a score that failed is None")
    return values


def is_binary(scores: Scores) -> bool:
    """Whether every score says right (1) or wrong (0)."""
    return all(value in (0.0, 1.0) for given in scores.values() for value in valid(given))


def summarise(scores: Scores, seed: int = 0, share: bool = False) -> Summary:
    """The mean score with its 95 % interval.

    Args:
        share: is a score a share by what it is (pass@k)? Then the interval stays between 0 and 1, as it does where
            every score is right or wrong.

    Raises:
        FailedSamplesError: not one sample was scored.
    """
    means = _means(scores)
    failed = sum(value is None for given in scores.values() for value in given)
    if not means:
        raise FailedSamplesError(f"none of the evaluation's {failed} samples could be scored")
    values = np.array(list(means.values()))
    mean, n = float(values.mean()), len(values)
    if _decided(values):
        return Summary(mean, *wilson(int(values.sum()), n), n, failed)
    low, high = _bootstrap(values, seed)
    if low is not None and high is not None and (share or is_binary(scores)):  # widened, it may leave these
        low, high = max(0.0, low), min(1.0, high)
    return Summary(mean, low, high, n, failed)


def summarise_ratio(over: Floats, under: Floats, seed: int = 0) -> Summary:
    """What whole texts have together, sum of `over` / sum of `under`: bits for each byte, say. Resampled by text.

    Args:
        over, under: [D] of each text.
    """
    if over.shape != under.shape or not len(over) or not (under > 0).all():
        raise ValueError("a ratio needs texts, and something above 0 to divide by in each")
    interval = bootstrap_ratio(over, under, seed=seed) if len(over) > 1 else (None, None)
    return Summary(float(over.sum() / under.sum()), *interval, len(over), 0)


def compare(before: Scores, after: Scores, seed: int = 0) -> Comparison:
    """The change from `before` to `after`, paired by question.

    Where every question is right or wrong: McNemar's exact test. Anything else: a permutation test of the
    questions' means, with a bootstrap interval. Questions that were not scored in both are left out.
    """
    means, later = _means(before), _means(after)
    shared = [question for question in means if question in later]
    if not shared:
        raise ValueError("the two evaluations have no scored question in common")
    first = np.array([means[question] for question in shared])
    second = np.array([later[question] for question in shared])
    change, n = second - first, len(shared)
    mean = float(change.mean())
    if _decided(first) and _decided(second):
        gained, lost = int((change > 0).sum()), int((change < 0).sum())
        low, high = paired_share_difference(gained, lost, n)
        # With one more of each, as in the interval: none that changed is not a deviation of 0.
        up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
        deviation = math.sqrt(up + down - (up - down) ** 2)
        return Comparison(mean, low, high, mcnemar(gained, lost), n, MCNEMAR, deviation)
    low, high = _bootstrap(change, seed)
    return Comparison(mean, low, high, sign_flip(change, seed=seed), n, PERMUTATION, _deviation(change))


def compare_ratio(before: Floats, after: Floats, under: Floats, seed: int = 0) -> Comparison:
    """The change of a ratio of sums over the same texts, paired by text: of bits for each byte, say.

    Args:
        before, after, under: [D] of each text.
    """
    change, n = after - before, len(under)
    low, high = bootstrap_ratio(change, under, seed=seed) if n > 1 else (None, None)
    ratio = float(change.sum() / under.sum())
    of_texts = (change - ratio * under) * n / float(under.sum())  # each text's share in the ratio's deviation
    return Comparison(ratio, low, high, sign_flip(change, seed=seed), n, PERMUTATION, _deviation(of_texts))


def _means(scores: Scores) -> dict[str, float]:
    values = {question: valid(given) for question, given in scores.items()}
    return {question: sum(given) / len(given) for question, given in values.items() if given}


def _decided(means: Floats) -> bool:
    """Whether every question is simply right or wrong: then a share is counted, whatever was sampled."""
    return bool(np.isin(means, (0.0, 1.0)).all())


def _deviation(values: Floats) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _bootstrap(values: Floats, seed: int) -> tuple[float | None, float | None]:
    return bootstrap_mean(values, seed=seed) if len(values) > 1 else (None, None)
