"""Losses of pairs: by hand, by finite differences, and where the margin is extreme. Equal to TRL's: tests/peers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tutelage.functional.preference_losses import dpo


def pairs(*values: list[float]) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values]


def test_dpo_by_hand() -> None:
    chosen_P, rejected_P, of_chosen_P, of_rejected_P = pairs([-1.0, -4.0], [-2.0, -3.0], [-1.5, -4.0], [-1.5, -3.0])
    loss_P = dpo(chosen_P, rejected_P, of_chosen_P, of_rejected_P, beta=0.5)
    # The margins are 0.5 * ((-1 + 1.5) - (-2 + 1.5)) = 0.5 and, where policy and reference agree, 0.
    expected = [math.log(1 + math.exp(-0.5)), math.log(2)]
    torch.testing.assert_close(loss_P, torch.tensor(expected, dtype=torch.float64))
    slope = torch.tensor([0.5 / (1 + math.exp(0.5)), 0.25], dtype=torch.float64)
    of = torch.autograd.grad(loss_P.sum(), (chosen_P, rejected_P))
    torch.testing.assert_close(of, (-slope, slope))


def test_beta_is_the_papers() -> None:
    of = pairs([-1.0], [-3.0], [-2.0], [-2.0])
    torch.testing.assert_close(dpo(*of), dpo(*of, beta=0.1))
    assert dpo(*of).item() == pytest.approx(math.log(1 + math.exp(-0.2)))


@pytest.mark.parametrize("beta", [0.1, 3.0])
def test_finite_differences(beta: float) -> None:
    of = pairs([-1.2, -0.5, -30.0], [-0.9, -7.0, -2.0], [-1.0, -0.6, -28.0], [-1.1, -6.0, -2.5])
    assert torch.autograd.gradcheck(lambda *x: dpo(*x, beta=beta), of)


@pytest.mark.parametrize(("gap", "loss", "slope"), [(1e4, 0.0, 0.0), (-1e4, 1e3, -0.1)])
def test_extreme_margins_are_finite(gap: float, loss: float, slope: float) -> None:
    chosen_P, zero_P = torch.full((1,), gap, requires_grad=True), torch.zeros(1)
    loss_P = dpo(chosen_P, zero_P, zero_P, zero_P)
    assert loss_P.item() == pytest.approx(loss)
    assert torch.autograd.grad(loss_P.sum(), chosen_P)[0].item() == pytest.approx(slope)


def test_pairs_must_align() -> None:
    one_P, two_P = torch.zeros(1), torch.zeros(2)
    with pytest.raises(AssertionError):
        dpo(two_P, one_P, two_P, two_P)
