"""What every algorithm owes the rest: recipes, sums that add up, finite losses, right gradients, honest metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tutelage.algorithms import (
    ALGORITHMS,
    Algorithm,
    DrGrpo,
    Grpo,
    Reinforce,
    Rloo,
    build_algorithm,
    supervised_loss,
)
from tutelage.errors import ConfigError
from tutelage.types import Actions, Loss

LOSSES = {
    "reinforce": Reinforce().loss,
    "grpo": Grpo().loss,
    "grpo without anchor": Grpo(kl=0.0, clip_high=0.28).loss,
    "dr_grpo": DrGrpo(length=10).loss,
    "rloo": Rloo().loss,
    "rloo with anchor": Rloo(kl=0.1).loss,
    "supervised": supervised_loss,
}


def make_actions(dtype: torch.dtype = torch.float64, spread: float = 0.1) -> Actions:
    """Four sequences of 3, 0, 1 and 4 actions; `spread` is how far the policy is from the behaviour."""
    generator = torch.Generator().manual_seed(7)

    def random() -> Tensor:
        return torch.randn(8, generator=generator, dtype=torch.float64)

    sequence_A = torch.tensor([0, 0, 0, 2, 3, 3, 3, 3])
    logprobs_A, credit_B = -random().abs() - 0.1, random()[:4]
    return Actions(
        logprobs_A=logprobs_A.to(dtype),
        entropy_A=random().abs().to(dtype),
        advantages_A=credit_B[sequence_A].to(dtype),
        behaviour_A=(logprobs_A + spread * random()).to(dtype),
        reference_A=(logprobs_A + 0.3 * random()).to(dtype),
        sequence_A=sequence_A,
        sequences=4,
    )


def pick(actions: Actions, wanted: list[int]) -> Actions:
    """The micro-batch of the wanted sequences."""
    here_A = torch.isin(actions.sequence_A, torch.tensor(wanted))
    assert actions.reference_A is not None
    return Actions(
        logprobs_A=actions.logprobs_A[here_A],
        entropy_A=actions.entropy_A[here_A],
        advantages_A=actions.advantages_A[here_A],
        behaviour_A=actions.behaviour_A[here_A],
        reference_A=actions.reference_A[here_A],
        sequence_A=torch.searchsorted(torch.tensor(wanted), actions.sequence_A[here_A]),
        sequences=len(wanted),
    )


def loss_and_gradient(name: str, actions: Actions) -> tuple[Loss, Tensor]:
    logprobs_A = actions.logprobs_A.clone().requires_grad_()
    loss = LOSSES[name](replace(actions, logprobs_A=logprobs_A))
    return loss, torch.autograd.grad(loss.total, logprobs_A)[0]


@pytest.mark.parametrize("name", LOSSES)
def test_finite_differences(name: str) -> None:
    actions = make_actions()

    def total(logprobs_A: Tensor) -> Tensor:
        return LOSSES[name](replace(actions, logprobs_A=logprobs_A)).total

    assert torch.autograd.gradcheck(total, actions.logprobs_A.clone().requires_grad_())


@pytest.mark.parametrize("name", LOSSES)
def test_micro_batches_add_up_to_the_whole(name: str) -> None:
    """In fp32 to 1e-6: the total, its gradient and the metrics."""
    actions = make_actions(torch.float32)
    whole, gradient_A = loss_and_gradient(name, actions)
    parts = [([0, 1], [0, 1, 2]), ([2, 3], [3, 4, 5, 6, 7])]
    total, metrics = torch.zeros(()), {key: torch.zeros(()) for key in whole.metrics}
    for sequences, places in parts:
        part, part_gradient = loss_and_gradient(name, pick(actions, sequences))
        assert part.unit == whole.unit
        torch.testing.assert_close(part_gradient, gradient_A[places], rtol=1e-6, atol=1e-6)
        total = total + part.total.detach()
        metrics = {key: metrics[key] + part.metrics[key] for key in metrics}
    torch.testing.assert_close(total, whole.total.detach(), rtol=1e-6, atol=1e-6)
    for key, value in metrics.items():
        torch.testing.assert_close(value, whole.metrics[key], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_on_policy_the_gradient_is_the_credit_over_the_loss_own_length(name: str) -> None:
    """By hand: -A / length of the sequence, over the constant, or whole; the anchors add what their papers say."""
    actions = make_actions(spread=0.0)
    assert actions.reference_A is not None
    _, gradient_A = loss_and_gradient(name, actions)
    credit_A, x_A = actions.advantages_A, actions.logprobs_A - actions.reference_A
    length_A = torch.tensor([3.0, 3, 3, 1, 4, 4, 4, 4], dtype=torch.float64)
    drift_A = torch.cat([x_A[:3].sum().expand(3), x_A[3:4], x_A[4:].sum().expand(4)])
    expected = {
        "reinforce": -credit_A,
        "grpo": (-credit_A + 0.04 * (1 - (-x_A).exp())) / length_A,
        "grpo without anchor": -credit_A / length_A,
        "dr_grpo": -credit_A / 10,
        "rloo": -credit_A,
        "rloo with anchor": -(credit_A - 0.1 * drift_A),
        "supervised": -credit_A,
    }
    torch.testing.assert_close(gradient_A, expected[name])


@pytest.mark.parametrize("name", LOSSES)
def test_no_actions_cost_nothing(name: str) -> None:
    loss, gradient_A = loss_and_gradient(name, pick(make_actions(), [1]))
    assert loss.total.item() == 0.0
    assert all(value.item() == 0.0 for value in loss.metrics.values())
    assert gradient_A.shape == (0,)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("gap", [-500.0, 500.0])
def test_extreme_ratios_stay_finite(name: str, gap: float) -> None:
    actions = make_actions(torch.float32)
    far = replace(actions, behaviour_A=actions.logprobs_A - gap, reference_A=actions.logprobs_A - gap)
    loss, gradient_A = loss_and_gradient(name, far)
    assert loss.total.isfinite()
    assert gradient_A.isfinite().all()
    if "grpo" in name:
        assert gradient_A.eq(0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_units_and_metrics(name: str) -> None:
    loss, _ = loss_and_gradient(name, make_actions())
    assert loss.unit == ("tokens" if name == "supervised" else "sequences")
    expected = {"entropy"}
    if "grpo" in name or "rloo" in name:
        expected |= {"ratio", "clipped"}
    if name in ("grpo", "rloo with anchor"):
        expected |= {"kl"}
    assert set(loss.metrics) == expected
    assert not any(value.requires_grad for value in loss.metrics.values())


def test_metrics_by_hand() -> None:
    actions = make_actions(spread=0.5)
    assert actions.reference_A is not None
    ratio_A = (actions.logprobs_A - actions.behaviour_A).exp()
    x_A = actions.logprobs_A - actions.reference_A
    clipped_A = ((ratio_A > 1.2) & (actions.advantages_A > 0)) | ((ratio_A < 0.8) & (actions.advantages_A < 0))
    assert 0 < clipped_A.sum() < 8
    metrics = Grpo().loss(actions).metrics
    expected = {"ratio": ratio_A, "clipped": clipped_A, "kl": (-x_A).exp() - 1 + x_A, "entropy": actions.entropy_A}
    for key, value in expected.items():
        assert metrics[key].item() == pytest.approx(value.sum().item(), rel=1e-6)


@pytest.mark.parametrize("algorithm", [Grpo(), Rloo(kl=0.1)])
def test_a_missing_reference_is_refused(algorithm: Algorithm) -> None:
    assert algorithm.needs_reference
    with pytest.raises(ValueError, match="needs_reference"):
        algorithm.loss(replace(make_actions(), reference_A=None))


def test_who_needs_a_reference() -> None:
    without: list[Algorithm] = [Grpo(kl=0.0), Rloo(), DrGrpo(), Reinforce()]
    assert not any(algorithm.needs_reference for algorithm in without)


def test_credit_is_the_papers() -> None:
    rewards_PG, valid_PG = torch.tensor([[0.0, 0.0, 3.0], [1.0, 2.0, 9.0]]), torch.tensor([[True] * 3] * 2)
    valid_PG[1, 2] = False
    std = 3.0**0.5 + 1e-4
    half = 0.5 / (0.5**0.5 + 1e-4)
    expected = {
        "grpo": [[-1 / std, -1 / std, 2 / std], [-half, half, 0.0]],
        "dr_grpo": [[-1.0, -1.0, 2.0], [-0.5, 0.5, 0.0]],
        "rloo": [[-1.5, -1.5, 3.0], [-1.0, 1.0, 0.0]],
        "reinforce": [[-1.2, -1.2, 1.8], [-0.2, 0.8, 0.0]],
    }
    assert set(expected) == set(ALGORITHMS)
    for name, credit in expected.items():
        algorithm = build_algorithm({"type": name}, "algorithm")
        torch.testing.assert_close(algorithm.credit(rewards_PG, valid_PG), torch.tensor(credit))
    plain = Reinforce(baseline="none").credit(rewards_PG, valid_PG)
    assert plain.tolist() == [[0.0, 0.0, 3.0], [1.0, 2.0, 0.0]]


def test_a_recipes_table_with_the_papers_defaults() -> None:
    assert build_algorithm({"type": "grpo"}, "algorithm") == Grpo(kl=0.04, clip_low=0.2, clip_high=0.2)
    assert build_algorithm({"type": "dr_grpo", "length": 64}, "algorithm") == DrGrpo(length=64)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"type": "gpro"}, ["stage[1].algorithm.type", "did you mean 'grpo'?"]),
        ({"type": "grpo", "klcoef": 0.1}, ["stage[1].algorithm", "unknown key 'klcoef'"]),
        ({"type": "grpo", "kl": -1}, ["stage[1].algorithm.kl", "greater than or equal to 0"]),
        ({"type": "reinforce", "baseline": "median"}, ["stage[1].algorithm.baseline", "'median'"]),
        ({"type": "dr_grpo", "length": 0}, ["stage[1].algorithm.length"]),
    ],
)
def test_mistakes_are_refused_with_their_place(table: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        build_algorithm(table, "stage[1].algorithm")
    assert all(word in str(refusal.value) for word in words)


@pytest.mark.parametrize("algorithm", [Grpo(), DrGrpo(), Rloo()])
def test_a_group_of_one_is_refused_with_reason_and_remedy(algorithm: Algorithm) -> None:
    with pytest.raises(ConfigError) as refusal:
        algorithm.check_group_size(1, "stage[1].completions_per_prompt")
    for word in ("stage[1].completions_per_prompt: 1", "every advantage would be 0", "at least 2", "reinforce"):
        assert word in str(refusal.value)
    algorithm.check_group_size(2)
    Reinforce().check_group_size(1)


class Timid(Grpo):
    """A user's own: GRPO with half the credit."""

    courage: float = 0.5

    def credit(self, rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        return self.courage * super().credit(rewards_PG, valid_PG)


def test_a_users_own_algorithm_may_inherit_a_built_in_one() -> None:
    timid = build_algorithm({"type": f"{__name__}:Timid", "courage": 0.25, "kl": 0.0}, "algorithm")
    rewards_PG, valid_PG = torch.tensor([[0.0, 1.0]]), torch.tensor([[True, True]])
    expected_PG = 0.25 * Grpo().credit(rewards_PG, valid_PG)
    torch.testing.assert_close(timid.credit(rewards_PG, valid_PG), expected_PG)
