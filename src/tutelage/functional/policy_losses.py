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


def surrogate(ratio: Tensor, advantages: Tensor) -> Tensor:
    """-r A, whose trust is kept by other means than a clip (TRPO, 1502.05477, equation 14)."""
    assert ratio.shape == advantages.shape, (ratio.shape, advantages.shape)
    return -ratio * advantages.detach()


def clipped_surrogate(
    ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float, clip_dual: float | None = None
) -> tuple[Tensor, Tensor]:
    """-min(r A, clip(r, 1 - low, 1 + high) A): the objective of PPO (1707.06347), equation 7, as a loss.

    At ratio 1 its gradient is REINFORCE's. A much increased ratio with a negative advantage keeps its full gradient,
    unless `clip_dual` is given: then r A counts as no less than clip_dual * A (Ye et al., 1912.09729, equation 5).

    Args:
        ratio: [A] or [B] policy / behaviour.
        advantages: the same shape.
        clip_low, clip_high: how far the ratio may go below and above 1; the paper has 0.2 for both.
        clip_dual: above 1; the second paper has 3.

    Returns:
        the terms, and bool: where a clip holds, and with it the gradient is 0.
    """
    assert ratio.shape == advantages.shape, (ratio.shape, advantages.shape)
    advantages = advantages.detach()
    objective = torch.minimum(ratio * advantages, ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * advantages)
    too_low = (ratio < 1.0 - clip_low) & (advantages < 0)
    too_high = (ratio > 1.0 + clip_high) & (advantages > 0)
    clipped = too_low | too_high
    if clip_dual is not None:
        beyond = (ratio > clip_dual) & (advantages < 0)
        objective, clipped = torch.where(beyond, clip_dual * advantages, objective), clipped | beyond
    return -objective, clipped


def gated_surrogate(ratio_A: Tensor, advantages_A: Tensor, raised: float, lowered: float) -> Tensor:
    """[A] -(4 / t) sigmoid(t (r - 1)) A: SAPO (2511.20347), equation 6, as a loss; t is `raised` where A > 0, else
    `lowered`. At ratio 1 its gradient is REINFORCE's."""
    assert ratio_A.shape == advantages_A.shape, (ratio_A.shape, advantages_A.shape)
    advantages_A = advantages_A.detach()
    temperature_A = torch.where(advantages_A > 0, raised, lowered).to(ratio_A.dtype)
    return -4.0 / temperature_A * torch.sigmoid(temperature_A * (ratio_A - 1.0)) * advantages_A


def cross_entropy(logprobs_A: Tensor, weights_A: Tensor) -> Tensor:
    """[A] -w log policy: imitation is reinforcement with a credit of w, in nats where w is 1."""
    return reinforce(logprobs_A, weights_A)


def weighted_reinforce(
    logprobs_A: Tensor, ratio_A: Tensor, advantages_A: Tensor, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """-sg(clip(r, 1 - low, 1 + high)) A log policy: CISPO (MiniMax-M1, 2506.13585), equation 4.

    The weight is clipped, the gradient is not: every action keeps one.

    Returns:
        [A] the terms, and bool: where the weight is clipped.
    """
    weight_A = ratio_A.detach().clamp(1.0 - clip_low, 1.0 + clip_high)
    return reinforce(logprobs_A, weight_A * advantages_A), weight_A != ratio_A.detach()


def shaped(logprobs_A: Tensor, advantages_A: Tensor, shaping: float) -> Tensor:
    """[A] -p / (p + shaping) * A of tokens that an expert wrote, p their probability: LUFFY (2504.14945), equation 7.

    The slope by the log-probability is A p shaping / (p + shaping)^2, largest at p = shaping.
    """
    assert logprobs_A.shape == advantages_A.shape, (logprobs_A.shape, advantages_A.shape)
    probs_A = logprobs_A.exp()
    return -probs_A / (probs_A + shaping) * advantages_A.detach()


def squared_mirror(log_ratio_B: Tensor, advantages_B: Tensor, temperature: float) -> Tensor:
    """[B] -A x + temperature / 2 x^2, x = log(policy / behaviour) of a whole sequence: Kimi k1.5 (2501.12599), eq. 3.

    The gradient of half the squared residual of relative-entropy mirror descent, over the temperature.
    """
    assert log_ratio_B.shape == advantages_B.shape, (log_ratio_B.shape, advantages_B.shape)
    return temperature / 2 * log_ratio_B.square() - advantages_B.detach() * log_ratio_B
