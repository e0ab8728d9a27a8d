"""Returns and advantages along sequences, against their definitions written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tutelage.functional import returns
from tutelage.functional.value_losses import clipped_squared, explained_variance, squared

LENGTHS = [4, 0, 1, 3]  # ragged, one sequence without any action
SEQUENCE_A = torch.arange(4).repeat_interleave(torch.tensor(LENGTHS))


def random(count: int, seed: int) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


REWARDS_A, VALUES_A, AFTER_B = random(8, 1), random(8, 2), random(4, 3)


def parts(values_A: Tensor) -> list[list[float]]:
    return [part.tolist() for part in values_A.split(LENGTHS)]


@pytest.mark.parametrize("discount", [1.0, 0.9, 0.0])
def test_discounted_sums(discount: float) -> None:
    expected = [
        sum(discount ** (k - t) * r for k, r in enumerate(rewards) if k >= t) + discount ** (len(rewards) - t) * after
        for rewards, after in zip(parts(REWARDS_A), AFTER_B.tolist(), strict=True)
        for t in range(len(rewards))
    ]
    sums_A = returns.discounted_sums(REWARDS_A, SEQUENCE_A, 4, discount, AFTER_B)
    torch.testing.assert_close(sums_A, torch.tensor(expected, dtype=torch.float64))


def by_definition(discount: float, decay_B: list[float]) -> list[float]:
    """Equation 16 of 1506.02438: every delta, summed anew for every action."""
    estimates: list[float] = []
    for rewards, values, after, decay in zip(parts(REWARDS_A), parts(VALUES_A), AFTER_B.tolist(), decay_B, strict=True):
        then = [*values[1:], after]
        deltas = [r + discount * n - v for r, n, v in zip(rewards, then, values, strict=False)]
        estimates += [
            sum((discount * decay) ** (k - t) * delta for k, delta in enumerate(deltas) if k >= t)
            for t in range(len(rewards))
        ]
    return estimates


@pytest.mark.parametrize("discount", [1.0, 0.97])
@pytest.mark.parametrize("decay", [1.0, 0.95, 0.0])
def test_gae(discount: float, decay: float) -> None:
    estimates_A = returns.gae(REWARDS_A, VALUES_A, SEQUENCE_A, AFTER_B, discount, decay)
    expected = torch.tensor(by_definition(discount, [decay] * 4), dtype=torch.float64)
    torch.testing.assert_close(estimates_A, expected)


def test_gae_with_a_decay_for_each_sequence() -> None:
    decay_B = [0.9, 0.5, 0.0, 1.0]
    estimates_A = returns.gae(REWARDS_A, VALUES_A, SEQUENCE_A, AFTER_B, 0.99, torch.tensor(decay_B).double())
    torch.testing.assert_close(estimates_A, torch.tensor(by_definition(0.99, decay_B), dtype=torch.float64))


def test_with_decay_1_the_advantage_is_the_return_less_the_value() -> None:
    estimates_A = returns.gae(REWARDS_A, VALUES_A, SEQUENCE_A, AFTER_B, 0.9, 1.0)
    torch.testing.assert_close(estimates_A, returns.discounted_sums(REWARDS_A, SEQUENCE_A, 4, 0.9, AFTER_B) - VALUES_A)


def test_what_comes_after_an_end_and_after_a_cut() -> None:
    """One reward of 1 at the end; the cut sequence expects 5 more, the ended one nothing."""
    sequence_A = torch.tensor([0, 0, 1, 1])
    rewards_A = torch.tensor([0.0, 1.0, 0.0, 1.0])
    sums_A = returns.discounted_sums(rewards_A, sequence_A, 2, 0.5, torch.tensor([0.0, 5.0]))
    assert sums_A.tolist() == [0.5, 1.0, 0.5 * 3.5, 3.5]


def test_no_actions_at_all() -> None:
    nothing = torch.zeros(0)
    assert returns.gae(nothing, nothing, nothing.long(), torch.zeros(3)).shape == (0,)


def test_a_critics_losses_by_hand() -> None:
    values_A, predicted_A, returns_A = torch.tensor([1.0, 1.0]), torch.tensor([0.0, 0.9]), torch.tensor([2.0, 0.0])
    assert squared(values_A, returns_A).tolist() == [0.5, 0.5]
    # Held within 0.2 of the prediction, the first value is 0.2, further from its return: that error counts.
    torch.testing.assert_close(clipped_squared(values_A, predicted_A, returns_A, 0.2), torch.tensor([1.62, 0.5]))
    values_A.requires_grad_()
    (slope_A,) = torch.autograd.grad(clipped_squared(values_A, predicted_A, returns_A, 0.2).sum(), values_A)
    assert slope_A.tolist() == [0.0, 1.0]  # past the clip there is no gradient


def test_explained_variance() -> None:
    returns_A = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert explained_variance(returns_A + 7, returns_A) == 1.0
    assert explained_variance(torch.zeros(4), returns_A) == 0.0
    assert explained_variance(-returns_A, returns_A) == -3.0
    assert explained_variance(torch.randn(4), torch.ones(4)) == 0.0
