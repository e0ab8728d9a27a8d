"""The pieces of a trust-region step, against linear algebra and closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from tutelage.functional.trust_region import conjugate_gradients, line_search, longest_step


def positive(size: int) -> torch.Tensor:
    root = torch.randn(size, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    return root @ root.T + 0.1 * torch.eye(size, dtype=torch.float64)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_conjugate_gradients_solve_in_as_many_steps_as_there_are_numbers(size: int) -> None:
    matrix, target = positive(size), torch.arange(1.0, size + 1).double()
    calls: list[int] = []

    def product(vector: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return matrix @ vector

    x = conjugate_gradients(product, target, size, tolerance=0.0)
    torch.testing.assert_close(x, torch.linalg.solve(matrix, target))
    assert len(calls) <= size


def test_conjugate_gradients_stop_when_they_are_there() -> None:
    def product(vector: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return 2.0 * vector

    calls: list[int] = []
    torch.testing.assert_close(conjugate_gradients(product, torch.ones(5), 10), torch.full((5,), 0.5))
    assert len(calls) == 1
    assert conjugate_gradients(product, torch.zeros(5), 10).eq(0).all()


def test_the_longest_step_reaches_the_bound_of_the_quadratic() -> None:
    matrix, direction = positive(3), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    step = longest_step(direction, matrix @ direction, 0.01)
    assert 0.5 * (step @ matrix @ step).item() == pytest.approx(0.01)
    assert longest_step(torch.zeros(3), torch.zeros(3), 0.01).eq(0).all()


def test_a_line_search_takes_the_first_share_that_lowers_the_loss_within_the_bound() -> None:
    shares: list[float] = []
    asked: list[float] = []

    def go_to(share: float) -> float:
        shares.append(share)
        return share**2  # within 0.5 below 0.7071

    def loss_here() -> float:
        asked.append(shares[-1])
        return (shares[-1] - 0.3) ** 2 - 0.09  # below 0 from 0.6 on

    found = line_search(go_to, loss_here, 0.0, 0.5, 10, 0.8)
    assert shares == pytest.approx([1.0, 0.8, 0.64, 0.512])
    assert asked == pytest.approx([0.64, 0.512])  # beyond the bound nobody asks
    assert (found.share, found.kl) == pytest.approx((0.512, 0.512**2))


@pytest.mark.parametrize(("loss", "kl"), [(1.0, 0.0), (-1.0, 1.0), (math.nan, 0.0), (-1.0, math.nan)])
def test_a_line_search_may_refuse_the_step_and_goes_back(loss: float, kl: float) -> None:
    shares: list[float] = []

    def go_to(share: float) -> float:
        shares.append(share)
        return kl

    found = line_search(go_to, lambda: loss, 0.0, 0.01, 3, 0.5)
    assert (found.share, found.kl) == (0.0, 0.0)
    assert shares == [1.0, 0.5, 0.25, 0.0]
