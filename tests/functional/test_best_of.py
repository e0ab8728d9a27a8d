"""Best-of-n against enumeration: how far it goes."""

from __future__ import annotations

import math

import pytest

from tutelage.functional.best_of import best_of_n_kl


@pytest.mark.parametrize("n", [1, 2, 4, 16])
def test_the_kl_is_that_of_many_equally_likely_answers(n: int) -> None:
    """The best of n of m answers in order has the distribution (i^n - (i-1)^n) / m^n, whose KL tends to the formula."""
    m = 4000
    best = [(i**n - (i - 1) ** n) / m**n for i in range(1, m + 1)]
    kl = sum(p * math.log(p * m) for p in best if p > 0)
    assert best_of_n_kl(n) == pytest.approx(kl, abs=0.005)
    few = [(i**n - (i - 1) ** n) / 3**n for i in range(1, 4)]
    assert sum(p * math.log(p * 3) for p in few if p > 0) <= best_of_n_kl(n) + 1e-12
