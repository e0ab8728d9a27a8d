"""KL(policy || reference), in nats: estimated from sampled tokens, and exact.

With x = log policy - log reference of a token that the policy sampled (Schulman, 2020, "Approximating KL
divergence"), in expectation:

| Estimator | Value | Gradient, as a loss term | Policy gradient, as a penalty in the reward |
|---|---|---|---|
| k1 = x | KL | 0 | of KL |
| k2 = x^2 / 2 | not KL | of KL, token by token | not of KL |
| k3 = exp(-x) - 1 + x | KL | of the reverse KL, token by token | not of KL |
| ratio * k3 | KL | of KL, token by token | - |

The reverse KL is KL(reference || policy). Token by token: a loss term does not carry what a token does to the
KL of the tokens after it. The policy gradient of k1, summed over the sequence in its reward, does, and is the
exact gradient of the sequence's KL.
"""

from __future__ import annotations

from torch import Tensor

from tutelage.functional.logprobs import at_least_fp32
from tutelage.functional.ratios import LOG_RATIO_LIMIT, token_ratio


def _log_ratio(policy_A: Tensor, reference_A: Tensor) -> Tensor:
    assert policy_A.shape == reference_A.shape, (policy_A.shape, reference_A.shape)
    return policy_A - reference_A


def k1(policy_A: Tensor, reference_A: Tensor) -> Tensor:
    """[A] x: unbiased, of either sign, high variance."""
    return _log_ratio(policy_A, reference_A)


def k2(policy_A: Tensor, reference_A: Tensor) -> Tensor:
    """[A] x^2 / 2: biased, never negative."""
    return _log_ratio(policy_A, reference_A).square() / 2


def k3(policy_A: Tensor, reference_A: Tensor) -> Tensor:
    """[A] exp(-x) - 1 + x: unbiased, never negative, low variance; the KL of GRPO (2402.03300), equation 4.

    x is held within +-20 so that a token the policy has all but abandoned gives a finite value and no
    gradient.
    """
    log_ratio_A = _log_ratio(policy_A, reference_A).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    return (-log_ratio_A).expm1() + log_ratio_A


def k3_unbiased(policy_A: Tensor, reference_A: Tensor, behaviour_A: Tensor) -> Tensor:
    """[A] ratio * k3, for samples of another policy: its mean over them is the KL, and so is its gradient.

    The ratio carries a gradient, too: on-policy, where it is 1, that is what k3 alone lacks (DeepSeek-V3.2,
    2512.02556).
    """
    return token_ratio(policy_A, behaviour_A) * k3(policy_A, reference_A)


def exact(policy_RV: Tensor, reference_RV: Tensor) -> Tensor:
    """[R] the sum over the vocabulary, from logits [R, V]; inf where only the reference has no mass."""
    assert policy_RV.shape == reference_RV.shape, (policy_RV.shape, reference_RV.shape)
    policy_RV = at_least_fp32(policy_RV).log_softmax(-1)
    reference_RV = at_least_fp32(reference_RV).log_softmax(-1)
    probs_RV = policy_RV.exp()
    difference_RV = (policy_RV - reference_RV).masked_fill(probs_RV == 0, 0.0)  # 0 log 0 = 0
    return (probs_RV * difference_RV).sum(-1)
