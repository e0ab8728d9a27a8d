"""Which algorithm's expected gradient is the gradient of the expected reward: by enumeration, to 1e-12."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.functional.oracle import World, expected_gradient, gradient, random_logits
from tutelage.algorithms import (
    Algorithm,
    Cispo,
    Dapo,
    Distillation,
    DrGrpo,
    Gmpo,
    Grpo,
    Gspo,
    Kimi,
    KlCov,
    Opo,
    Reinforce,
    Remax,
    Rloo,
    Rlp,
    Sapo,
    Spiral,
    supervised_loss,
)
from tutelage.functional.advantages import STD_EPS
from tutelage.types import Actions, Credit, Experience, Loss

WORLDS = [World(ends=False), World(ends=True)]
UNCLIPPED = 1e9


def policy() -> Tensor:
    return random_logits(1).requires_grad_()


def expected(algorithm: Algorithm, world: World, logits: Tensor, group: int, **others: Any) -> Tensor:
    return expected_gradient(world, logits, group, algorithm, **others)


def close(left: Tensor, right: Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-12)


def cosine(left: Tensor, right: Tensor) -> float:
    return torch.cosine_similarity(left.flatten(), right.flatten(), dim=0).item()


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("group", [1, 2])
def test_reinforce_is_the_gradient_of_the_expected_reward(world: World, group: int) -> None:
    logits = policy()
    close(
        expected(Reinforce(baseline="none"), world, logits, group),
        -gradient(world.expected_reward(logits), logits),
    )


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("group", [2, 3])
def test_a_mean_with_the_own_sample_in_it_shrinks_the_gradient(world: World, group: int) -> None:
    logits = policy()
    exact = -gradient(world.expected_reward(logits), logits)
    close(expected(Reinforce(baseline="mean"), world, logits, group), exact * (group - 1) / group)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("group", [2, 3])
def test_leave_one_out_is_the_gradient_of_the_expected_reward(world: World, group: int) -> None:
    logits = policy()
    close(expected(Rloo(), world, logits, group), -gradient(world.expected_reward(logits), logits))


@pytest.mark.parametrize("group", [2, 3])
def test_rlp_with_thoughts_of_one_length_is_the_exact_gradient_over_that_length(group: int) -> None:
    world, logits = World(), policy()
    exact = -gradient(world.expected_reward(logits), logits)
    close(expected(Rlp(), world, logits, group), exact / 2)
    unclipped = Rlp(clip_low=UNCLIPPED, clip_high=UNCLIPPED)
    away = expected(unclipped, world, logits, group, behaviour=random_logits(2))
    assert 0.5 < cosine(away, exact) < 0.9999  # ratios of single tokens: right to first order only


def test_rlps_shorter_thoughts_weigh_more() -> None:
    """With unlike lengths it is the exact gradient of no reward, as its mean within each thought bends it."""
    world, logits = World(ends=True), policy()
    assert cosine(expected(Rlp(), world, logits, 2), -gradient(world.expected_reward(logits), logits)) < 0.9999


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("group", [2, 3])
def test_spiral_without_self_play_is_the_gradient_of_the_expected_reward(world: World, group: int) -> None:
    logits = policy()
    close(expected(Spiral(), world, logits, group), -gradient(world.expected_reward(logits), logits))


def test_spirals_baselines_are_unbiased_and_of_less_variance_than_one_for_both_roles() -> None:
    """Two games of a bandit's arms, either role moving once in each; the second role earns 5 more, whatever it does."""
    logits = random_logits(1)[0].requires_grad_()
    logprobs_S, rewards_S = logits.log_softmax(0), torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    offset_PG = torch.tensor([[0.0, 0.0], [5.0, 5.0]])
    found: dict[str, tuple[Tensor, float]] = {}
    for algorithm in (Spiral(), Reinforce(baseline="mean")):
        mean, square = torch.zeros_like(logits), 0.0
        for picked in itertools.product(range(3), repeat=4):
            logprobs_A = logprobs_S[list(picked)]
            experience = Experience(
                rewards_PG=rewards_S[list(picked)].view(2, 2) + offset_PG,
                valid_PG=torch.ones(2, 2, dtype=torch.bool),
                truncated_PG=torch.zeros(2, 2, dtype=torch.bool),
                sequence_A=torch.arange(4),
                rewards_A=torch.zeros(4),
                behaviour_A=logprobs_A.detach(),
                after_B=torch.zeros(4),
                role_P=torch.tensor([0, 1]),
                episode_PG=torch.tensor([[8, 9], [8, 9]]),
            )
            grad = gradient((logprobs_A * algorithm.credit(experience).advantages_A).sum() / 4, logits)
            chance = logprobs_A.sum().exp().item()
            mean, square = mean + chance * grad, square + chance * grad.square().sum().item()
        found[algorithm.type] = mean, square - mean.square().sum().item()
    exact = gradient((logprobs_S.exp() * rewards_S).sum(), logits)
    close(found["spiral"][0], exact)
    close(found["reinforce"][0], exact * 3 / 4)  # its own sample is among the four
    assert found["spiral"][1] < 0.5 * found["reinforce"][1] * (4 / 3) ** 2


@pytest.mark.parametrize("world", WORLDS)
def test_leave_one_out_stays_exact_on_another_policys_samples(world: World) -> None:
    logits = policy()
    unclipped = Rloo(clip_low=UNCLIPPED, clip_high=UNCLIPPED)
    grad = expected(unclipped, world, logits, 2, behaviour=random_logits(2))
    close(grad, -gradient(world.expected_reward(logits), logits))


@pytest.mark.parametrize("world", WORLDS)
def test_the_anchor_of_rloo_is_the_gradient_of_the_sequences_kl(world: World) -> None:
    logits, reference = policy(), random_logits(3)
    objective = world.expected_reward(logits) - 0.7 * world.exact_kl(logits, reference)
    close(expected(Rloo(kl=0.7), world, logits, 2, reference=reference), -gradient(objective, logits))


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("group", [2, 3])
def test_dr_grpo_is_a_fixed_share_of_the_exact_gradient(world: World, group: int) -> None:
    logits = policy()
    exact = -gradient(world.expected_reward(logits), logits)
    close(expected(DrGrpo(length=5), world, logits, group), exact * (group - 1) / group / 5)


def test_grpo_is_not_the_gradient_of_the_expected_reward() -> None:
    """Scaled by the std, even answers of one length give another direction; 1 / length bends it further."""
    logits = policy()
    for world in WORLDS:
        exact = -gradient(world.expected_reward(logits), logits)
        assert 0.5 < cosine(expected(Grpo(kl=0.0), world, logits, 2), exact) < 0.999


def test_grpo_with_pairs_is_the_gradient_of_winning_against_itself() -> None:
    """What does hold: with G = 2 and one length, the exact gradient of E[win(R - R')], R' from a frozen self."""
    world, logits = World(), policy()
    frozen_S = world.logprobs_S(logits.detach()).exp()
    gap_SS = world.rewards_S[:, None] - world.rewards_S[None, :]
    win_SS = (gap_SS / 2) / (gap_SS.abs() / math.sqrt(2) + STD_EPS)
    objective = world.logprobs_S(logits).exp() @ win_SS @ frozen_S
    close(expected(Grpo(kl=0.0), world, logits, 2), -gradient(objective, logits) / 2)  # / 2: the length


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("group", [1, 2])
def test_remax_is_the_gradient_of_the_expected_reward_whatever_its_baseline(world: World, group: int) -> None:
    logits = policy()
    grad = expected(Remax(), world, logits, group, greedy=0.4)
    close(grad, -gradient(world.expected_reward(logits), logits))


@pytest.mark.parametrize("world", WORLDS)
def test_the_anchor_of_reinforce_is_the_gradient_of_the_sequences_kl(world: World) -> None:
    logits, reference = policy(), random_logits(3)
    objective = world.expected_reward(logits) - 0.7 * world.exact_kl(logits, reference)
    for algorithm in (Reinforce(kl=0.7, baseline="none"), Remax(kl=0.7)):
        grad = expected(algorithm, world, logits, 2, reference=reference, greedy=0.4)
        close(grad, -gradient(objective, logits))


@pytest.mark.parametrize("world", WORLDS)
def test_credit_from_later_rewards_alone_keeps_the_gradient(world: World) -> None:
    """The penalty comes token by token: what was paid before an action is no credit of its."""
    logits, reference = policy(), random_logits(3)
    objective = world.expected_reward(logits) - 0.7 * world.exact_kl(logits, reference)
    by_action = Reinforce(kl=0.7, baseline="none", credit_of="action")
    close(expected(by_action, world, logits, 1, reference=reference), -gradient(objective, logits))


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("group", [2, 3])
def test_kimis_mirror_descent_begins_along_a_fixed_share_of_the_exact_gradient(world: World, group: int) -> None:
    logits = policy()
    exact = -gradient(world.expected_reward(logits), logits)
    close(expected(Kimi(), world, logits, group), exact * (group - 1) / group)


@pytest.mark.parametrize("group", [2, 3])
def test_opo_with_answers_of_one_length_is_a_fixed_share_of_the_exact_gradient(group: int) -> None:
    """Its own sample is in the baseline, as in Dr. GRPO; with unlike lengths the weights lean on the samples, too."""
    world, logits = World(), policy()
    exact = -gradient(world.expected_reward(logits), logits)
    close(expected(Opo(), world, logits, group), exact * (group - 1) / group)


def test_token_means_of_one_length_are_the_clipped_surrogates_of_their_advantages() -> None:
    """DAPO, CISPO, GSPO, GMPO and SAPO begin where GRPO does: with answers of one length, only the unit differs."""
    world, logits = World(), policy()
    grpo = expected(Grpo(kl=0.0), world, logits, 2)
    for algorithm in (Gspo(), Gmpo(), Sapo()):
        close(expected(algorithm, world, logits, 2), grpo)
    for algorithm in (Dapo(), Cispo(), KlCov(penalty=0.0)):  # a sum over tokens, of which a sequence has two
        close(expected(algorithm, world, logits, 2), 2 * grpo)


@dataclass(frozen=True)
class BinaryWorld(World):
    @property
    def rewards_S(self) -> Tensor:
        return (super().rewards_S > 0).double()


def test_grpo_with_right_or_wrong_answers_of_one_length_has_the_exact_direction() -> None:
    """What does hold: c(p) times the exact gradient, p the success rate, k right of G with probability Bin(k; G, p)."""
    world, logits, group = BinaryWorld(), policy(), 3
    p = world.expected_reward(logits).item()
    factor = 0.0
    for k in range(1, group):
        std = math.sqrt(k * (group - k) / group / (group - 1)) + STD_EPS
        right, wrong = (1 - k / group) / std, (-k / group) / std
        chance = math.comb(group, k) * p**k * (1 - p) ** (group - k)
        factor += chance * (k * right / p - (group - k) * wrong / (1 - p)) / group
    exact = -gradient(world.expected_reward(logits), logits)
    close(expected(Grpo(kl=0.0), world, logits, group), exact * factor / 2)


class Imitation(Algorithm):
    type: str = "imitation"

    def credit(self, experience: Experience) -> Credit:
        return experience.shared(torch.ones_like(experience.rewards_PG))

    def loss(self, actions: Actions) -> Loss:
        return supervised_loss(actions)


def test_supervised_loss_is_the_gradient_of_the_cross_entropy() -> None:
    """Samples of a teacher, credit 1: the gradient of KL(teacher || policy), summed over tokens."""
    world, logits, teacher = World(ends=True), policy(), random_logits(4)
    grad = expected(Imitation(), world, logits, 1, behaviour=teacher)
    close(grad, gradient(world.exact_kl(teacher, logits), logits))


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("how", [{}, {"kl_in": "reward", "kl_estimator": "k1"}], ids=["exact", "sampled"])
def test_distillation_is_the_gradient_of_the_next_tokens_kl_where_the_policy_has_come(
    world: World, how: dict[str, Any]
) -> None:
    """Reverse KL to the teacher in every state, as often as the policy visits it; that is not differentiated."""
    logits, teacher = policy(), random_logits(5)
    everything = range(len(world.sequences))
    kl_A = world.token_kl(logits, teacher, everything)
    sequence_A = world.actions_of(logits, everything)[2]
    chance_A = world.logprobs_S(logits).exp().detach()[sequence_A]
    grad = expected(Distillation(kl=0.5, **how), world, logits, 1, reference=teacher)
    close(grad, gradient(0.5 * (chance_A * kl_A).sum(), logits))
    for group in (2, 3):
        close(expected(Distillation(kl=0.5, **how), world, logits, group, reference=teacher), grad)
