"""Best-of-n against enumeration: what it earns, and how far it goes."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch

from tutelage.functional.best_of import best_of_n_kl, best_of_n_mean


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_estimate_is_the_mean_over_all_choices(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    chosen_by, values = torch.randn(3, 5, generator=generator), torch.randn(3, 5, generator=generator)
    for p in range(3):
        best = [max(choice, key=lambda i: chosen_by[p, i].item()) for choice in combinations(range(5), n)]
        expected = sum(values[p, i].item() for i in best) / len(best)
        assert best_of_n_mean(chosen_by, values, n)[p].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("n", [1, 2, 4, 16])
def test_the_kl_is_that_of_many_equally_likely_answers(n: int) -> None:
    """The best of n of m answers in order has the distribution (i^n - (i-1)^n) / m^n, whose KL tends to the formula."""
    m = 4000
    best = [(i**n - (i - 1) ** n) / m**n for i in range(1, m + 1)]
    kl = sum(p * math.log(p * m) for p in best if p > 0)
    assert best_of_n_kl(n) == pytest.approx(kl, abs=0.005)
    few = [(i**n - (i - 1) ** n) / 3**n for i in range(1, 4)]
    assert sum(p * math.log(p * 3) for p in few if p > 0) <= best_of_n_kl(n) + 1e-12
