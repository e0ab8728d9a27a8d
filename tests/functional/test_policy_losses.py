"""Ratios and loss terms: by hand, by finite differences, and where the ratio is extreme."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tutelage.functional import policy_losses, ratios

SEQUENCE_A = torch.tensor([0, 0, 2])


def test_ratios_by_hand() -> None:
    logprobs_A, behaviour_A = torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([-1.5, -2.2, -2.5])
    expected = torch.tensor([math.exp(0.5), math.exp(0.2), math.exp(-0.5)])
    torch.testing.assert_close(ratios.token_ratio(logprobs_A, behaviour_A), expected)
    expected = torch.tensor([math.exp(0.35), 1.0, math.exp(-0.5)])
    torch.testing.assert_close(ratios.sequence_ratio(logprobs_A, behaviour_A, SEQUENCE_A, 3), expected)
    expected = torch.tensor([math.exp(0.7), 1.0, math.exp(-0.5)])
    torch.testing.assert_close(ratios.whole_ratio(logprobs_A, behaviour_A, SEQUENCE_A, 3), expected)


def test_clipped_surrogate_by_hand() -> None:
    #                              inside, too high, too high but bad, too low, too low but good
    ratio_A = torch.tensor([1.1, 1.5, 1.5, 0.5, 0.5], requires_grad=True)
    advantages_A = torch.tensor([2.0, 2.0, -2.0, -2.0, 2.0])
    terms_A, clipped_A = policy_losses.clipped_surrogate(ratio_A, advantages_A, 0.2, 0.28)
    torch.testing.assert_close(terms_A.detach(), torch.tensor([-2.2, -2.56, 3.0, 1.6, -1.0]))
    assert clipped_A.tolist() == [False, True, False, True, False]
    (grad,) = torch.autograd.grad(terms_A.sum(), ratio_A)
    assert grad.tolist() == [-2.0, 0.0, 2.0, 0.0, -2.0]


def test_reinforce_and_cross_entropy_by_hand() -> None:
    logprobs_A = torch.tensor([-1.0, -2.0], requires_grad=True)
    weights_A = torch.tensor([3.0, -0.5], requires_grad=True)
    for terms in (policy_losses.reinforce, policy_losses.cross_entropy):
        terms_A = terms(logprobs_A, weights_A)
        assert terms_A.tolist() == [3.0, -1.0]
        (grad,) = torch.autograd.grad(terms_A.sum(), logprobs_A)
        assert grad.tolist() == [-3.0, 0.5]


def surrogate(level: str, logprobs_A: Tensor) -> Tensor:
    behaviour_A = torch.tensor([-1.3, -0.4, -2.2], dtype=torch.float64)
    advantages = torch.tensor([1.5, -0.7, -1.1], dtype=torch.float64)
    if level == "token":
        ratio = ratios.token_ratio(logprobs_A, behaviour_A)
    else:
        of = ratios.sequence_ratio if level == "sequence" else ratios.whole_ratio
        ratio = of(logprobs_A, behaviour_A, SEQUENCE_A, 3)
    return policy_losses.clipped_surrogate(ratio, advantages, 0.2, 0.28)[0]


@pytest.mark.parametrize("level", ["token", "sequence", "whole"])
@pytest.mark.parametrize("logprobs", [[-1.2, -0.5, -2.1], [-0.9, -0.8, -3.0], [-2.0, -0.2, -1.5]])
def test_finite_differences(level: str, logprobs: list[float]) -> None:
    logprobs_A = torch.tensor(logprobs, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: surrogate(level, x), logprobs_A)
    assert torch.autograd.gradcheck(lambda x: policy_losses.reinforce(x, torch.ones_like(x)), logprobs_A)


@pytest.mark.parametrize("gap", [-1000.0, -90.0, 90.0, 1000.0])
@pytest.mark.parametrize("advantage", [-1.0, 1.0])
def test_extreme_ratios_are_finite_and_without_gradient(gap: float, advantage: float) -> None:
    logprobs_A = torch.full((2,), gap, requires_grad=True)
    behaviour_A, whose_A = torch.zeros(2), torch.tensor([0, 1])
    for ratio in (
        ratios.token_ratio(logprobs_A, behaviour_A),
        ratios.sequence_ratio(logprobs_A, behaviour_A, whose_A, 2),
        ratios.whole_ratio(logprobs_A, behaviour_A, whose_A, 2),
    ):
        terms, _ = policy_losses.clipped_surrogate(ratio, torch.full((2,), advantage), 0.2, 0.2)
        assert terms.isfinite().all()
        assert torch.autograd.grad(terms.sum(), logprobs_A)[0].tolist() == [0.0, 0.0]


def test_the_dual_clip_by_hand() -> None:
    """Advantage -1: ratios of 0.5 and 2 as PPO has them, 5 held at 3; advantage 1: as PPO has it."""
    ratio_A = torch.tensor([0.5, 2.0, 5.0, 5.0], requires_grad=True)
    advantages_A = torch.tensor([-1.0, -1.0, -1.0, 1.0])
    terms_A, clipped_A = policy_losses.clipped_surrogate(ratio_A, advantages_A, 0.2, 0.2, clip_dual=3.0)
    torch.testing.assert_close(terms_A, torch.tensor([0.8, 2.0, 3.0, -1.2]))
    assert clipped_A.tolist() == [True, False, True, True]
    (slope_A,) = torch.autograd.grad(terms_A.sum(), ratio_A)
    assert slope_A.tolist() == [0.0, 1.0, 0.0, 0.0]


def test_a_geometric_ratio_is_clipped_where_its_advantage_pushes() -> None:
    """Log-ratios 0.6 and -0.6 in two sequences: credited 1 they are held at 0.4 and not below, credited -1 at -0.4."""
    behaviour_A = torch.zeros(4, dtype=torch.float64)
    log_ratio_A = torch.tensor([0.6, -0.6, 0.6, -0.6], dtype=torch.float64, requires_grad=True)
    advantages_A, sequence_A = torch.tensor([1.0, 1.0, -1.0, -1.0]).double(), torch.tensor([0, 0, 1, 1])
    ratio_B, clipped_A = ratios.geometric_ratio(log_ratio_A, behaviour_A, advantages_A, sequence_A, 2, 0.4, 0.4)
    torch.testing.assert_close(ratio_B, torch.tensor([-0.1, 0.1]).double().exp())
    assert clipped_A.tolist() == [True, False, False, True]
    (slope_A,) = torch.autograd.grad(ratio_B.sum(), log_ratio_A)
    assert slope_A.ne(0).tolist() == [False, True, True, False]


def test_mirror_descent_is_half_the_squared_residual_over_the_temperature() -> None:
    """Up to what does not depend on the policy: 1/2 (A - tau x)^2 / tau = tau/2 x^2 - A x + A^2 / (2 tau)."""
    x_B, advantages_B, tau = torch.tensor([0.3, -1.0]), torch.tensor([2.0, 0.5]), 0.7
    expected = (advantages_B - tau * x_B).square() / (2 * tau) - advantages_B.square() / (2 * tau)
    torch.testing.assert_close(policy_losses.squared_mirror(x_B, advantages_B, tau), expected)
