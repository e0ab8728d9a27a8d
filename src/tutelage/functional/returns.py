"""Returns and advantages along sequences: sums of what comes later, discounted.

Flat, as everywhere: [A] numbers with the sequence of each, ascending and without gaps in time. A sequence is an
answer, or a stretch of one episode; `after_B` is the value of the state in which it stops, 0 where the episode ended.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.functional.reductions import lengths


def discounted_sums(
    values_A: Tensor, sequence_A: Tensor, sequences: int, discount: float | Tensor, after_B: Tensor | None = None
) -> Tensor:
    """[A] s_t = v_t + discount * s_{t+1} within each sequence; beyond its last action stands `after_B`, or 0.

    Args:
        discount: one for all, or [B] one for each sequence.
    """
    assert values_A.shape == sequence_A.shape, (values_A.shape, sequence_A.shape)
    length_B = lengths(sequence_A, sequences)
    longest = int(length_B.max()) if len(values_A) else 0
    # Right-aligned, so that every sequence's last action stands in the last column and `after` right behind it.
    first_B = length_B.cumsum(0) - length_B
    column_A = torch.arange(len(values_A), device=values_A.device) - first_B[sequence_A]
    column_A = column_A + longest - length_B[sequence_A]
    values_BT = values_A.new_zeros(sequences, longest)
    values_BT[sequence_A, column_A] = values_A
    running_B = values_A.new_zeros(sequences) if after_B is None else after_B
    sums_BT = torch.empty_like(values_BT)
    for t in reversed(range(longest)):
        running_B = values_BT[:, t] + discount * running_B
        sums_BT[:, t] = running_B
    return sums_BT[sequence_A, column_A]


def next_values(values_A: Tensor, sequence_A: Tensor, after_B: Tensor) -> Tensor:
    """[A] the value of the state that each action leads to."""
    assert values_A.shape == sequence_A.shape, (values_A.shape, sequence_A.shape)
    last_A = torch.ones_like(sequence_A, dtype=torch.bool)
    last_A[:-1] = sequence_A[1:] != sequence_A[:-1]
    return torch.where(last_A, after_B[sequence_A], values_A.roll(-1))


def gae(
    rewards_A: Tensor,
    values_A: Tensor,
    sequence_A: Tensor,
    after_B: Tensor,
    discount: float = 1.0,
    decay: float | Tensor = 0.95,
) -> Tensor:
    """[A] generalised advantage estimates (Schulman et al., 1506.02438, equation 16).

    A_t = sum over l of (discount * decay)^l * delta_{t+l}, delta_t = r_t + discount * V_{t+1} - V_t. A decay (the
    paper's lambda) of 1 gives returns less values: no bias from the critic; 0 gives delta alone.

    Args:
        rewards_A: [A] earned right after each action.
        values_A: [A] the critic's value of the state in which each was taken.
        after_B: [B] the value of the state after the last one, 0 where the episode ended.
        decay: one for all, or [B] one for each sequence.
    """
    assert rewards_A.shape == values_A.shape, (rewards_A.shape, values_A.shape)
    deltas_A = rewards_A + discount * next_values(values_A, sequence_A, after_B) - values_A
    return discounted_sums(deltas_A, sequence_A, len(after_B), discount * decay)
