"""Loss terms of actions: one number for each, to be minimised, not yet reduced.

| Symbol | Shape | Meaning |
|---|---|---|
| logprobs_A | [A] | log-probability of the action under the policy; carries the gradient |
| ratio | [A] or [B] | policy / behaviour, of tokens or of sequences; carries the gradient |
| advantages | as ratio | how much better than expected; a constant |
"""

from __future__ import annotations

import torch
from torch import Tensor


def reinforce(logprobs_A: Tensor, advantages_A: Tensor) -> Tensor:
    """[A] -A log policy (Williams, 1992); its gradient is the policy gradient where the policy sampled."""
    assert logprobs_A.shape == advantages_A.shape, (logprobs_A.shape, advantages_A.shape)
    return -advantages_A.detach() * logprobs_A


def clipped_surrogate(ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float) -> tuple[Tensor, Tensor]:
    """-min(r A, clip(r, 1 - low, 1 + high) A): the objective of PPO (1707.06347), equation 7, as a loss.

    At ratio 1 its gradient is REINFORCE's. Left out: the dual clip of later work, so a much increased ratio
    with a negative advantage keeps its full gradient.

    Args:
        ratio: [A] or [B] policy / behaviour.
        advantages: the same shape.
        clip_low, clip_high: how far the ratio may go below and above 1; the paper has 0.2 for both.

    Returns:
        the terms, and bool: where the clip holds, and with it the gradient is 0.
    """
    assert ratio.shape == advantages.shape, (ratio.shape, advantages.shape)
    advantages = advantages.detach()
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    too_low = (ratio < 1.0 - clip_low) & (advantages < 0)
    too_high = (ratio > 1.0 + clip_high) & (advantages > 0)
    return -torch.minimum(ratio * advantages, clipped * advantages), too_low | too_high


def cross_entropy(logprobs_A: Tensor, weights_A: Tensor) -> Tensor:
    """[A] -w log policy: imitation is reinforcement with a credit of w, in nats where w is 1."""
    return reinforce(logprobs_A, weights_A)
