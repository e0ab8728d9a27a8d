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
    seen: list[float] = []

    def at(share: float) -> tuple[float, float]:
        seen.append(share)
        return (share - 0.4) ** 2 - 0.16, share**2  # lower than 0 below 0.8; within 0.3 below 0.5477

    found = line_search(at, 0.0, 0.3, 10, 0.8)
    assert seen == pytest.approx([1.0, 0.8, 0.64, 0.512])
    assert (found.share, found.kl) == pytest.approx((0.512, 0.512**2))


@pytest.mark.parametrize("worse", [(1.0, 0.0), (-1.0, 1.0), (math.nan, 0.0), (-1.0, math.nan)])
def test_a_line_search_may_refuse_the_step_and_goes_back(worse: tuple[float, float]) -> None:
    seen: list[float] = []

    def at(share: float) -> tuple[float, float]:
        seen.append(share)
        return worse

    found = line_search(at, 0.0, 0.01, 3, 0.5)
    assert found.share == 0.0
    assert seen == [1.0, 0.5, 0.25, 0.0]
