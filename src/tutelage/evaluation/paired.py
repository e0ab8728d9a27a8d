"""Tests of a change on the same questions, asked before and after."""

from __future__ import annotations

import math

import numpy as np

from tutelage.evaluation.intervals import Floats, blocks, resamples_for


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p-value of McNemar's test (1947): were gains and losses equally likely?

    Args:
        gained: questions wrong before and right after.
        lost: questions right before and wrong after. Questions that did not change say nothing here.
    """
    n = gained + lost
    tail = sum(math.comb(n, i) for i in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**n)


def sign_flip(differences: Floats, resamples: int | None = None, seed: int = 0) -> float:
    """The two-sided p-value of the paired permutation test (Fisher, 1935) of a mean difference of zero.

    If nothing changed, each question's difference is as likely to have the other sign. The observed signs
    count as one of the draws (Phipson and Smyth, 2010), so p is never 0.
    """
    rng = np.random.default_rng(seed)
    n, observed = len(differences), abs(float(differences.sum()))
    resamples = resamples or resamples_for(n)
    at_least = 1
    for rows in blocks(resamples, n):
        signs = rng.integers(0, 2, (rows, n), dtype=np.int8) * 2 - 1
        at_least += int((np.abs(signs @ differences) >= observed - 1e-9 * max(1.0, observed)).sum())
    return at_least / (resamples + 1)
