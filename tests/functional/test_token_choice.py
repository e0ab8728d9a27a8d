"""Tokens that are treated apart, and weights for samples of another policy."""

from __future__ import annotations

import math

import pytest
import torch

from tutelage.functional import token_choice
from tutelage.functional.corrections import importance_weights


def test_covariance_by_hand() -> None:
    logprobs_A, advantages_A = torch.tensor([-1.0, -3.0, -2.0]), torch.tensor([3.0, 0.0, 0.0])
    assert token_choice.covariance(logprobs_A, advantages_A).tolist() == [2.0, 1.0, 0.0]


def test_the_largest_share() -> None:
    values_A = torch.tensor([0.1, 5.0, 3.0, -1.0, 4.0])
    assert token_choice.largest(values_A, 0.4).tolist() == [False, True, False, False, True]
    assert token_choice.largest(values_A, 0.0).tolist() == [False, True, False, False, False]  # at least one
    assert token_choice.largest(values_A[:0], 0.4).tolist() == []


def test_a_share_from_within_bounds_is_drawn_alike_each_time() -> None:
    values_A = torch.arange(100.0)
    chosen_A = token_choice.within(values_A, 9.5, 60.5, 0.2)
    assert chosen_A.sum() == 20
    assert not chosen_A[:10].any()
    assert not chosen_A[61:].any()
    assert chosen_A.equal(token_choice.within(values_A, 9.5, 60.5, 0.2))
    assert not chosen_A[10:30].all()  # drawn, not the first ones
    assert not token_choice.within(values_A, 200.0, 300.0, 0.2).any()
    assert not token_choice.within(torch.tensor([-math.inf]), -9.0, 9.0, 1.0).any()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("full", [0.25, 1.0, 3.0]), ("truncate", [0.25, 1.0, 2.0]), ("mask", [0.0, 1.0, 0.0])],
)
def test_importance_weights(kind: str, expected: list[float]) -> None:
    sampler_A = torch.tensor([-1.0, -2.0, -3.0])
    learner_A = (sampler_A + torch.tensor([0.25, 1.0, 3.0]).log()).requires_grad_()
    weight_A = importance_weights(learner_A, sampler_A, kind, 0.5, 2.0)  # type: ignore[arg-type]
    torch.testing.assert_close(weight_A, torch.tensor(expected))
    assert not weight_A.requires_grad


def test_full_weights_make_another_policys_samples_unbiased() -> None:
    policy_V, sampler_V = torch.tensor([0.2, 0.3, 0.5]), torch.tensor([0.6, 0.3, 0.1])
    worth_V = torch.tensor([1.0, -2.0, 4.0])
    weight_V = importance_weights(policy_V.log(), sampler_V.log(), "full", 0.5, 2.0)
    torch.testing.assert_close((sampler_V * weight_V * worth_V).sum(), (policy_V * worth_V).sum())
