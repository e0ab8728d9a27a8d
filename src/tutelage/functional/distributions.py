"""Distributions of actions other than tokens: a few choices (their KL is `kl.exact`), or a diagonal Gaussian.

Suffix K: choices, or dimensions.
"""

from __future__ import annotations

import math

from torch import Tensor

_LOG_2_PI = math.log(2.0 * math.pi)


def categorical(logits_AK: Tensor, actions_A: Tensor) -> tuple[Tensor, Tensor]:
    """[A] log-probability of each action, and [A] entropy, in nats."""
    assert actions_A.shape == logits_AK.shape[:1], (actions_A.shape, logits_AK.shape)
    logprobs_AK = logits_AK.log_softmax(-1)
    return logprobs_AK.gather(1, actions_A[:, None])[:, 0], -(logprobs_AK.exp() * logprobs_AK).sum(-1)


def gaussian(mean_AK: Tensor, log_std_K: Tensor, actions_AK: Tensor) -> tuple[Tensor, Tensor]:
    """[A] log-density of each action, and [A] differential entropy, in nats; the dimensions are independent."""
    assert mean_AK.shape == actions_AK.shape, (mean_AK.shape, actions_AK.shape)
    scaled_AK = (actions_AK - mean_AK) * (-log_std_K).exp()
    logprobs_A = -0.5 * (scaled_AK.square() + _LOG_2_PI).sum(-1) - log_std_K.sum()
    entropy_A = (log_std_K + 0.5 * (1.0 + _LOG_2_PI)).sum().expand(len(mean_AK))
    return logprobs_A, entropy_A


def gaussian_kl(mean_AK: Tensor, log_std_K: Tensor, other_AK: Tensor, other_log_std_K: Tensor) -> Tensor:
    """[A] KL(first || other) of diagonal Gaussians: log(s2 / s1) + (s1^2 + (m1 - m2)^2) / (2 s2^2) - 1/2, summed."""
    spread_AK = (2.0 * log_std_K).exp() + (mean_AK - other_AK).square()
    return (other_log_std_K - log_std_K + 0.5 * spread_AK * (-2.0 * other_log_std_K).exp() - 0.5).sum(-1)
