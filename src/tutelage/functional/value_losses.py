"""Losses of a critic, one number for each action, and how much of the returns it explains."""

from __future__ import annotations

import torch
from torch import Tensor


def squared(values_A: Tensor, returns_A: Tensor) -> Tensor:
    """[A] half the squared error."""
    assert values_A.shape == returns_A.shape, (values_A.shape, returns_A.shape)
    return (values_A - returns_A.detach()).square() / 2


def clipped_squared(values_A: Tensor, predicted_A: Tensor, returns_A: Tensor, clip: float) -> Tensor:
    """[A] the larger of half the squared errors of the value, and of the value held within +-clip of its prediction.

    From PPO's code (baselines), not its paper.

    Args:
        predicted_A: [A] what the critic said when the returns were made.
    """
    predicted_A = predicted_A.detach()
    held_A = predicted_A + (values_A - predicted_A).clamp(-clip, clip)
    return torch.maximum(squared(values_A, returns_A), squared(held_A, returns_A))


def explained_variance(values_A: Tensor, returns_A: Tensor) -> Tensor:
    """1 - Var(returns - values) / Var(returns): 1 is perfect, 0 no better than a constant. 0 for constant returns."""
    variance = returns_A.var(correction=0)
    return torch.where(variance > 0, 1 - (returns_A - values_A).var(correction=0) / variance, 0.0)
