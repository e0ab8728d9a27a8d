"""PRIME: its credit by hand and by its definition, and whose gradient it is."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.functional.oracle import World, experience_of, gradient, random_logits
from tutelage.algorithms import Prime, Rloo
from tutelage.types import Actions, Experience


def experience(rewards: list[float], process: list[list[float]], valid: list[bool] | None = None) -> Experience:
    """One group; `process` is what each answer's tokens earned, which the rewards have in them."""
    sequence_A = torch.arange(len(process)).repeat_interleave(torch.tensor([len(own) for own in process]))
    process_A = torch.tensor([x for own in process for x in own], dtype=torch.float64)
    of = experience_of(torch.tensor(rewards, dtype=torch.float64), sequence_A, torch.zeros(len(sequence_A)))
    valid_PG = of.valid_PG if valid is None else torch.tensor([valid])
    return replace(of, valid_PG=valid_PG, process_A=process_A)


def test_credit_by_hand() -> None:
    """Outcomes 1, 0, 0. Mean process rewards 0.2, -0.1, 0.4, so the baselines are 0.15, 0.3, 0.05."""
    of = experience([1.4, -0.2, 0.4], [[0.3, 0.1], [0.0, -0.2], [0.4]])
    returns = [0.15 - 0.05, -0.05, -0.3 - 0.5, -0.5, 0.35]
    outcomes = [1.0, 1.0, -0.5, -0.5, -0.5]
    expected_A = torch.tensor([a + b for a, b in zip(returns, outcomes, strict=True)], dtype=torch.float64)
    torch.testing.assert_close(Prime().credit(of).advantages_A, expected_A)
    halved = [0.15 - 0.5 * 0.05, -0.05, -0.3 - 0.5 * 0.5, -0.5, 0.35]
    expected_A = torch.tensor([a + b for a, b in zip(halved, outcomes, strict=True)], dtype=torch.float64)
    torch.testing.assert_close(Prime(discount=0.5).credit(of).advantages_A, expected_A)


def test_an_unrewarded_answer_is_in_no_baseline_and_one_alone_teaches_nothing() -> None:
    of = experience([1.4, 99.0, 0.4], [[0.3, 0.1], [], [0.4]], [True, False, True])
    expected_A = torch.tensor([-0.1 - 0.3 + 1.0, -0.3 + 1.0, 0.2 - 1.0], dtype=torch.float64)
    torch.testing.assert_close(Prime().credit(of).advantages_A, expected_A)
    alone = experience([1.4, 99.0], [[0.3, 0.1], []], [True, False])
    assert Prime().credit(alone).advantages_A.tolist() == [0.0, 0.0]


def test_without_process_rewards_it_credits_as_rloo() -> None:
    of = experience([1.0, 0.0, 0.5], [[0.0, 0.0], [0.0], [0.0]])
    for process_A in (of.process_A, None):
        credit = Prime().credit(replace(of, process_A=process_A))
        torch.testing.assert_close(credit.advantages_A, Rloo().credit(of).advantages_A)


def expected_gradient(world: World, logits: Tensor, group: int, beta: float) -> tuple[Tensor, Tensor]:
    """Of PRIME's loss over every group of samples, with implicit rewards; and of the reward that is expected."""
    models = random_logits(5), random_logits(6)
    everything = world.logprobs_S(models[0]) - world.logprobs_S(models[1])
    rewards_S = world.rewards_S + beta * everything
    probabilities_S = world.logprobs_S(logits)
    total = logits.new_zeros(())
    for picked in itertools.product(range(len(world.sequences)), repeat=group):
        logprobs_A, entropy_A, sequence_A = world.actions_of(logits, picked)
        process_A = beta * (world.actions_of(models[0], picked)[0] - world.actions_of(models[1], picked)[0])
        of = replace(experience_of(rewards_S[list(picked)], sequence_A, logprobs_A.detach()), process_A=process_A)
        actions = Actions(
            logprobs_A=logprobs_A,
            entropy_A=entropy_A,
            advantages_A=Prime().credit(of).advantages_A,
            behaviour_A=logprobs_A.detach(),
            reference_A=None,
            sequence_A=sequence_A,
            sequences=group,
        )
        loss = Prime().loss(actions)
        assert loss.unit == "tokens"
        total = total + probabilities_S[list(picked)].detach().sum().exp() * loss.total / group
    return gradient(total, logits), -gradient((probabilities_S.exp() * rewards_S).sum(), logits)


@pytest.mark.parametrize("group", [2, 3])
def test_it_is_the_gradient_of_outcome_and_process_for_answers_of_one_length(group: int) -> None:
    found, exact = expected_gradient(World(), random_logits(1).requires_grad_(), group, 0.4)
    torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-12)


def test_with_lengths_that_the_policy_chooses_its_baseline_leans_on_them() -> None:
    """What is taken off a token is the baseline times the tokens to come: right in direction, not exact."""
    found, exact = expected_gradient(World(ends=True), random_logits(1).requires_grad_(), 2, 0.4)
    cosine = torch.cosine_similarity(found.flatten(), exact.flatten(), dim=0).item()
    assert 0.9 < cosine < 0.99999
