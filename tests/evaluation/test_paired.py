"""Paired tests against scipy, enumeration and simulation."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from tutelage.evaluation.paired import mcnemar, sign_flip


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (0, 5), (7, 7), (10, 2), (84, 3), (60, 41), (700, 600)])
def test_mcnemar_equals_the_binomial_test(gained, lost):
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


def test_sign_flip_equals_enumeration():
    differences = np.array([0.5, 0.25, -0.1, 0.75, 0.0, 0.3, -0.25, 0.6, 0.2, -0.05])
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=10)]
    exact = np.mean(np.array(sums) >= abs(differences.sum()) - 1e-9)
    assert sign_flip(differences, resamples=100_000) == pytest.approx(exact, abs=0.005)


def test_sign_flip_ends():
    assert sign_flip(np.zeros(30)) == 1.0
    assert sign_flip(np.full(40, 0.2), resamples=999) == 1 / 1000  # never 0
    assert sign_flip(np.array([0.1])) == 1.0  # one question proves nothing


def test_sign_flip_rarely_finds_what_is_not_there():
    rng = np.random.default_rng(7)
    found = sum(sign_flip(rng.normal(0, 1, 30), resamples=500, seed=i) < 0.05 for i in range(1000))
    assert found / 1000 <= 0.065
