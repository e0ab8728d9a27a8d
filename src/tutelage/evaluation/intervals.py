"""Intervals for a share, for a mean over questions, and for the change of a share on the same questions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 10_000
_DRAWS = 20_000_000  # of one interval: beyond 2,000 questions there are fewer resamples, which then differ less
_DRAWS_AT_ONCE = 2_000_000  # random numbers held in memory at a time: 16 MB


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The score interval of a share (Wilson, 1927): honest near 0 and 1, where mean and error bar are not."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n}")
    z = _quantile(confidence)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_share_difference(gained: int, lost: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The adjusted Wald interval of a paired difference of shares (Bonett and Price, 2012).

    Args:
        gained: questions wrong before and right after.
        lost: questions right before and wrong after.
        n: all questions that were asked twice.
        confidence: the interval's level.
    """
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = _quantile(confidence) * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return max(-1.0, up - down - half), min(1.0, up - down + half)


def bootstrap_mean(
    values: Floats, confidence: float = CONFIDENCE, resamples: int | None = None, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of a mean (Efron, 1979), widened for few questions as Student's t is.

    Give one value per question: where a question was sampled several times, its mean. So whole questions are
    resampled, and the samples of one question are never mistaken for independent ones. It takes two or more.
    """
    n, mean = len(values), float(values.mean())
    if n < 2:
        raise ValueError("one question says nothing about how much questions differ")
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [values[rng.integers(0, n, (rows, n))].mean(axis=1) for rows in blocks(resamples or resamples_for(n), n)]
    )
    return _percentiles(means, mean, n, confidence)


def bootstrap_ratio(
    over: Floats, under: Floats, confidence: float = CONFIDENCE, resamples: int | None = None, seed: int = 0
) -> tuple[float, float]:
    """The same interval for a ratio of sums, over / under: whole texts are resampled, long ones and short ones."""
    n, ratio = len(over), float(over.sum() / under.sum())
    if n < 2:
        raise ValueError("one text says nothing about how much texts differ")
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(0, n, (rows, n)) for rows in blocks(resamples or resamples_for(n), n))
    ratios = np.concatenate([over[places].sum(axis=1) / under[places].sum(axis=1) for places in drawn])
    return _percentiles(ratios, ratio, n, confidence)


def _percentiles(resampled: Floats, found: float, n: int, confidence: float) -> tuple[float, float]:
    widened = found + (resampled - found) * widening(n, n - 1, confidence)
    low, high = np.quantile(widened, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def widening(n: int, freedom: int, confidence: float = CONFIDENCE) -> float:
    """How much wider than its resamples an interval of n values has to be: small evaluations would look too sure.

    A resample's variance is (n - 1) / n of the unbiased one; and that is itself uncertain, for which Student's t makes
    up with as many degrees of freedom (its expansion by Cornish and Fisher, 1937, good to 1 % from 3 on).
    """
    z = _quantile(confidence)
    first, second = (z**2 + 1) / 4, (5 * z**4 + 16 * z**2 + 3) / 96
    third = (3 * z**6 + 19 * z**4 + 17 * z**2 - 15) / 384
    student = 1 + first / freedom + second / freedom**2 + third / freedom**3
    return math.sqrt(n / (n - 1)) * student


def resamples_for(n: int) -> int:
    """How many resamples of n questions are drawn: 10,000, of very many questions fewer, and 1,000 at least."""
    return max(1000, min(RESAMPLES, _DRAWS // n))


def blocks(rows: int, columns: int) -> Iterator[int]:
    """Cuts `rows` into pieces of which each fits in memory with that many columns."""
    size = max(1, _DRAWS_AT_ONCE // columns)
    while rows > 0:
        yield min(size, rows)
        rows -= size


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
