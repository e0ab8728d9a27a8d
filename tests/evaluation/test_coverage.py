"""95 % intervals hold the truth 93 to 97 times in 100; tests find what they say, and claim no more than they may."""

import numpy as np
import pytest

from tests.evaluation import simulated
from tutelage.evaluation.intervals import bootstrap_mean, bootstrap_ratio

FAIR = (0.93, 0.97)


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def test_the_simulated_intervals_are_the_houses(rng):
    over, under = rng.beta(1, 3, (3, 40)), rng.lognormal(0, 1, (3, 40))
    low, high = simulated.intervals(over)
    found = np.stack([low, high], axis=1)
    assert found == pytest.approx(np.array([bootstrap_mean(row, resamples=1000) for row in over]))
    low, high = simulated.intervals(over, under)
    found = np.stack([low, high], axis=1)
    expected = [bootstrap_ratio(*rows, resamples=1000) for rows in zip(over, under, strict=True)]
    assert found == pytest.approx(np.array(expected))


@pytest.mark.parametrize(("n", "share"), [(120, 0.62), (120, 0.9), (500, 0.3), (500, 0.97)])
def test_wilson_covers(n, share, rng):
    assert FAIR[0] <= simulated.wilson_coverage(n, share, rng) <= FAIR[1]


@pytest.mark.parametrize("n", [30, 120])
def test_the_bootstrap_over_questions_covers(n, rng):
    assert FAIR[0] <= simulated.bootstrap_coverage(n, rng) <= FAIR[1]


@pytest.mark.parametrize("n", [30, 120])
def test_samples_clustered_by_question_cover_and_as_independent_ones_do_not(n, rng):
    assert FAIR[0] <= simulated.clustered_coverage(n, 8, rng) <= FAIR[1]
    assert simulated.clustered_coverage(n, 8, rng, by_question=False) < 0.75


@pytest.mark.parametrize("n", [30, 120])
def test_a_ratio_of_sums_covers(n, rng):
    assert FAIR[0] <= simulated.ratio_coverage(n, rng) <= FAIR[1]


@pytest.mark.parametrize("turned", [0.1, 0.3])
def test_a_planted_change_is_found_with_the_stated_power(turned, rng):
    n = simulated.questions_for(0.05, turned)
    assert 0.77 <= simulated.found_share(n, 0.05, turned, rng) <= 0.84
    assert simulated.found_share(n, 0.0, turned, rng) <= 0.055


def test_equal_models_are_not_said_to_differ(rng):
    assert simulated.claimed_share(6, 150, rng, correct=False) > 0.08  # what the correction is for
    assert simulated.claimed_share(6, 150, rng, correct=True) <= 0.05


@pytest.mark.parametrize(("runs", "tasks"), [(3, 1), (5, 10)])
def test_the_interquartile_mean_of_runs_covers(runs, tasks, rng):
    assert 0.92 <= simulated.runs_coverage(runs, tasks, rng, simulations=400) <= 0.985
