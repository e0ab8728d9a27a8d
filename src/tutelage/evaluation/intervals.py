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
    values: Floats, confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of a mean (Efron, 1979).

    Give one value per question: where a question was sampled several times, its mean. So whole questions are
    resampled, and the samples of one question are never mistaken for independent ones. It takes two or more.
    """
    n, mean = len(values), float(values.mean())
    if n < 2:
        raise ValueError("one question says nothing about how much questions differ")
    rng = np.random.default_rng(seed)
    means = np.concatenate([values[rng.integers(0, n, (rows, n))].mean(axis=1) for rows in blocks(resamples, n)])
    return _percentiles(means, mean, n, confidence)


def bootstrap_ratio(
    over: Floats, under: Floats, confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The same interval for a ratio of sums, over / under: whole texts are resampled, long ones and short ones."""
    n, ratio = len(over), float(over.sum() / under.sum())
    if n < 2:
        raise ValueError("one text says nothing about how much texts differ")
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(0, n, (rows, n)) for rows in blocks(resamples, n))
    ratios = np.concatenate([over[places].sum(axis=1) / under[places].sum(axis=1) for places in drawn])
    return _percentiles(ratios, ratio, n, confidence)


def _percentiles(resampled: Floats, found: float, n: int, confidence: float) -> tuple[float, float]:
    # A resample's variance is (n - 1) / n of the unbiased one: small evaluations would look too sure.
    widened = found + (resampled - found) * math.sqrt(n / (n - 1))
    low, high = np.quantile(widened, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def blocks(rows: int, columns: int) -> Iterator[int]:
    """Cuts `rows` into pieces of which each fits in memory with that many columns."""
    size = max(1, _DRAWS_AT_ONCE // columns)
    while rows > 0:
        yield min(size, rows)
        rows -= size


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
