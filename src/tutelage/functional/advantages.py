"""Advantages of the samples of a group from their rewards. P prompts, G completions per prompt.

Invalid samples (their reward failed) take no part in any baseline and get 0. A group with one valid sample,
or with equal rewards, teaches nothing: exactly 0, never NaN. Advantages are in the unit of the rewards, or of
their standard deviation where scaled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from tutelage.functional.reductions import lengths, sequence_means
from tutelage.functional.returns import discounted_sums

STD_EPS: Final = 1e-4  # as TRL; other libraries take 1e-6 or 1e-8


def _centre(rewards_PG: Tensor, valid_PG: Tensor) -> tuple[Tensor, Tensor]:
    """[P, G] rewards less their group's mean, 0 where invalid; [P, 1] valid samples of each group."""
    assert rewards_PG.ndim == 2, rewards_PG.shape
    assert valid_PG.shape == rewards_PG.shape, (valid_PG.shape, rewards_PG.shape)
    assert valid_PG.dtype == torch.bool, valid_PG.dtype
    rewards_PG = rewards_PG.to(torch.promote_types(rewards_PG.dtype, torch.float32))
    # Measured from the group's least reward, equal rewards are exactly 0, and stay so in the mean.
    least_P1 = rewards_PG.masked_fill(~valid_PG, math.inf).amin(1, keepdim=True)
    above_PG = torch.where(valid_PG, rewards_PG - least_P1, 0.0)
    count_P1 = valid_PG.sum(1, keepdim=True)
    mean_P1 = above_PG.sum(1, keepdim=True) / count_P1.clamp(min=1)
    return torch.where(valid_PG, above_PG - mean_P1, 0.0), count_P1


def group_centred(rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
    """[P, G] reward less its group's mean. In expectation its gradient is (G - 1) / G of the exact one."""
    return _centre(rewards_PG, valid_PG)[0]


def group_scaled(rewards_PG: Tensor, valid_PG: Tensor, eps: float = STD_EPS) -> Tensor:
    """[P, G] (reward - mean) / (sample standard deviation + eps) of its group."""
    centred_PG, count_P1 = _centre(rewards_PG, valid_PG)
    variance_P1 = centred_PG.square().sum(1, keepdim=True) / (count_P1 - 1).clamp(min=1)
    return centred_PG / (variance_P1.sqrt() + eps)


def leave_one_out(rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
    """[P, G] reward less the mean of the group's others, which is G / (G - 1) times the centred reward."""
    centred_PG, count_P1 = _centre(rewards_PG, valid_PG)
    return centred_PG * count_P1 / (count_P1 - 1).clamp(min=1)


def process_leave_one_out(process_A: Tensor, sequence_A: Tensor, valid_PG: Tensor, discount: float) -> Tensor:
    """[A] return of what each action earned by itself, above what the actions of the group's other samples did.

    PRIME (2502.01456), equation 5, first term: the sum from each action on of discounted (reward - baseline), where the
    baseline is the mean, over the group's other valid samples, of the mean reward of their actions. Exactly 0 in a
    group with one valid sample.

    Args:
        process_A: [A] earned by each action.
        sequence_A: [A] int64 p * G + g of each action, ascending.
    """
    means_PG = sequence_means(process_A, sequence_A, valid_PG.numel()).view(valid_PG.shape)
    baseline_PG = means_PG - leave_one_out(means_PG, valid_PG)
    compared_PG = (valid_PG.sum(1, keepdim=True) > 1).expand_as(valid_PG)
    above_A = torch.where(compared_PG.flatten()[sequence_A], process_A - baseline_PG.flatten()[sequence_A], 0.0)
    return discounted_sums(above_A, sequence_A, valid_PG.numel(), discount)


def length_centred(rewards_PG: Tensor, lengths_PG: Tensor, valid_PG: Tensor) -> Tensor:
    """[P, G] reward less its group's mean reward, each weighted by its length: OPO (2505.23585), equation 6.

    Args:
        lengths_PG: actions of each sample. In a group without any, the result is 0.
    """
    assert lengths_PG.shape == rewards_PG.shape, (lengths_PG.shape, rewards_PG.shape)
    centred_PG, count_P1 = _centre(rewards_PG, valid_PG)  # equal rewards are exactly 0 here, and stay so
    weights_PG = torch.where(valid_PG, lengths_PG, 0)
    total_P1 = weights_PG.sum(1, keepdim=True)
    offset_P1 = (weights_PG * centred_PG).sum(1, keepdim=True) / total_P1.clamp(min=1)
    return torch.where(valid_PG & (count_P1 > 1) & (total_P1 > 0), centred_PG - offset_P1, 0.0)


def batch_centred(rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
    """[P, G] reward less the mean over all valid samples of the batch, whatever their prompt."""
    return group_centred(rewards_PG.reshape(1, -1), valid_PG.reshape(1, -1)).reshape(rewards_PG.shape)


def batch_scaled(centred_PG: Tensor, rewards_PG: Tensor, valid_PG: Tensor, eps: float = STD_EPS) -> Tensor:
    """[P, G] advantages over (the standard deviation of all valid rewards of the batch + eps)."""
    spread_PG = batch_centred(rewards_PG, valid_PG)
    variance = spread_PG.square().sum() / (valid_PG.sum() - 1).clamp(min=1)
    return centred_PG / (variance.sqrt() + eps)


def role_centred(rewards_PG: Tensor, valid_PG: Tensor, role_P: Tensor, episode_PG: Tensor) -> Tensor:
    """[P, G] reward less the mean of what its role earned in the step's other episodes; 0 where there is no other.

    An episode counts once, however many sequences the role has in it, by their mean.

    Args:
        role_P: [P] int64, whose part each group is, from 0 on.
        episode_PG: [P, G] int64, the episode of each sequence.
    """
    assert role_P.shape == rewards_PG.shape[:1], (role_P.shape, rewards_PG.shape)
    assert episode_PG.shape == rewards_PG.shape, (episode_PG.shape, rewards_PG.shape)
    centred_PG = torch.zeros_like(rewards_PG)
    for own_PG in _roles(valid_PG, role_P):
        rewards_B, episode_B = rewards_PG[own_PG], episode_PG[own_PG] - episode_PG[own_PG].min()
        played_E = lengths(episode_B, int(episode_B.max()) + 1) > 0
        if played_E.sum() > 1:
            above_B = rewards_B - rewards_B.min()  # equal rewards are exactly 0, and stay so
            mean_E = sequence_means(above_B, episode_B, len(played_E))
            others_E = (mean_E.sum() - mean_E) / (played_E.sum() - 1)
            centred_PG[own_PG] = above_B - others_E[episode_B]
    return centred_PG


def _roles(valid_PG: Tensor, role_P: Tensor) -> Iterator[Tensor]:
    """[P, G] bool for each role: its valid sequences, where it has any."""
    assert valid_PG.dtype == torch.bool, valid_PG.dtype
    for role in range(int(role_P.max()) + 1):
        own_PG = valid_PG & (role_P == role)[:, None]
        if own_PG.any():
            yield own_PG


def role_scaled(rewards_PG: Tensor, valid_PG: Tensor, role_P: Tensor, eps: float = STD_EPS) -> Tensor:
    """[P, G] (reward - mean) / (sample standard deviation + eps), both over all valid sequences of its role."""
    assert role_P.shape == rewards_PG.shape[:1], (role_P.shape, rewards_PG.shape)
    scaled_PG = torch.zeros_like(rewards_PG)
    for own_PG in _roles(valid_PG, role_P):
        scaled_PG += batch_scaled(batch_centred(rewards_PG, own_PG), rewards_PG, own_PG, eps)
    return scaled_PG


def whitened(advantages_A: Tensor, eps: float = 1e-8) -> Tensor:
    """[A] to mean 0 and standard deviation 1 over all actions; 0 where they are all the same."""
    if len(advantages_A) < 2:
        return torch.zeros_like(advantages_A)
    # Measured from the least of them, equal ones are exactly 0, and stay so in the mean.
    above_A = advantages_A - advantages_A.min()
    return (above_A - above_A.mean()) / (above_A.std() + eps)


def length_rewards(lengths_PG: Tensor, correct_PG: Tensor, valid_PG: Tensor) -> Tensor:
    """[P, G] 0.5 - (length - shortest) / (longest - shortest) of the group; at most 0 for wrong answers.

    Kimi k1.5 (2501.12599), section 2.3.3. 0 in a group of equal lengths, and where invalid.
    """
    lengths_PG = lengths_PG.float()
    shortest_P1 = lengths_PG.masked_fill(~valid_PG, math.inf).amin(1, keepdim=True)
    longest_P1 = lengths_PG.masked_fill(~valid_PG, -math.inf).amax(1, keepdim=True)
    spread_P1 = longest_P1 - shortest_P1
    rewards_PG = 0.5 - (lengths_PG - shortest_P1) / spread_P1
    rewards_PG = torch.where(correct_PG, rewards_PG, rewards_PG.clamp(max=0.0))
    return torch.where(valid_PG & (spread_P1 > 0), rewards_PG, 0.0)
