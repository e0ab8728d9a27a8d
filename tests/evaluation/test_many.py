"""Holm's correction, by hand and against its definition; what a test can see."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import norm

from tutelage.evaluation import compare, corrected, detectable, holm, questions_needed


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2]) == [0.2]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_rejects_what_stepping_down_rejects():
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = rng.beta(0.4, 3, 7)
        order, rejected = np.argsort(p), set()
        for rank, place in enumerate(order):
            if p[place] >= 0.05 / (7 - rank):
                break
            rejected.add(int(place))
        assert {i for i, value in enumerate(holm(p.tolist())) if value < 0.05} == rejected
        assert all(a <= b for a, b in pairwise(sorted(holm(p.tolist()))))


def test_detectable_is_the_textbooks():
    wanted = norm.ppf(0.975) + norm.ppf(0.8)
    assert detectable(0.4, 100) == pytest.approx(wanted * 0.04)
    assert detectable(0.4, 100, tests=3) == pytest.approx((norm.ppf(1 - 0.05 / 6) + norm.ppf(0.8)) * 0.04)
    assert questions_needed(0.05, 0.4) == math.ceil((wanted * 8) ** 2)
    n = questions_needed(0.05, 0.4)
    assert detectable(0.4, n) <= 0.05 < detectable(0.4, n - 2)


def test_comparisons_told_together_are_corrected_together():
    first = {str(i): [0.0] for i in range(40)}
    better = {str(i): [float(i < 9)] for i in range(40)}
    found, none, same = corrected([compare(first, better), None, compare(first, first)])
    assert none is None
    assert found.p_value == pytest.approx(2 * 2 * 0.5**9)
    assert (found.measurable, same.measurable, same.tests) == (True, False, 2)
    assert compare(first, better).p_value == pytest.approx(2 * 0.5**9)


def test_nothing_that_changed_is_not_a_test_that_sees_everything():
    same = {str(i): [1.0] for i in range(50)}
    found = compare(same, same)
    assert 0.05 < found.detectable < 0.2
    assert found.needed(0.01) > 1000
