"""Runs together: scipy's trimmed mean, and intervals that know tasks from runs."""

import numpy as np
import pytest
from scipy.stats import trim_mean

from tutelage.evaluation import interquartile_mean, stratified_bootstrap


@pytest.mark.parametrize("shape", [(3, 1), (4, 1), (5, 3), (10, 7)])
def test_the_interquartile_mean_is_rliables(shape):
    scores = np.random.default_rng(1).normal(size=shape)
    assert interquartile_mean(scores) == pytest.approx(trim_mean(scores, 0.25, axis=None))


def test_an_outlier_does_not_move_it():
    assert interquartile_mean(np.array([[0.5], [0.5], [0.5], [-100.0]])) == 0.5


def test_tasks_are_not_resampled():
    """Three tasks far apart, of which every run has the same score: no other seed would differ."""
    scores = np.tile([0.1, 0.5, 0.9], (4, 1))
    assert stratified_bootstrap(scores) == pytest.approx((interquartile_mean(scores),) * 2)


def test_one_run_has_no_interval():
    with pytest.raises(ValueError, match="one run"):
        stratified_bootstrap(np.array([[0.5, 0.6]]))
