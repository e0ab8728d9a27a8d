"""Several runs of one recipe: what they come to together, and how sure that is (Agarwal et al., 2108.13264)."""

from __future__ import annotations

import numpy as np

from tutelage.evaluation.intervals import CONFIDENCE, RESAMPLES, Floats, widening


def interquartile_mean(scores_RT: Floats) -> float:
    """The mean of the middle half of all scores, of R runs on T tasks: surer than the median, sturdier than the mean.

    As rliable has it: a quarter of the scores, rounded down, is left out at either end. Of three runs on one task that
    is their mean.
    """
    return float(_trimmed(scores_RT.reshape(1, -1))[0])


def stratified_bootstrap(
    scores_RT: Floats, confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval of the interquartile mean. Runs are resampled within each task, tasks never.

    Tells how much other seeds would differ, on these tasks; it takes two or more. It is wider than rliable's, as the
    bootstrap over questions is, with tasks * (runs - 1) degrees of freedom: that of three runs on one task would hold
    the truth 3 times in 4 (docs/evaluation.md).
    """
    runs, tasks = scores_RT.shape
    if runs < 2:
        raise ValueError("one run says nothing about how much runs differ")
    drawn = np.random.default_rng(seed).integers(0, runs, (resamples, runs, tasks))
    means = _trimmed(scores_RT[drawn, np.arange(tasks)].reshape(resamples, -1))
    found = interquartile_mean(scores_RT)
    widened = found + (means - found) * widening(runs, tasks * (runs - 1), confidence)
    low, high = np.quantile(widened, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _trimmed(scores_BS: Floats) -> Floats:
    """[B]: of each row the mean without a quarter at either end."""
    cut = scores_BS.shape[1] // 4
    return np.sort(scores_BS, axis=1)[:, cut : scores_BS.shape[1] - cut].mean(axis=1)
