"""Losses of preferences: one number for each pair or judged answer, to be minimised, not yet reduced.

| Symbol | Shape | Meaning |
|---|---|---|
| log ratio x | [P] or [B] | log policy - log reference, summed over an answer's tokens; carries the gradient |
| reward r | [P] or [B] | implicit reward of an answer: beta x, unless a loss says otherwise |
| chosen_P, rejected_P | [P] | rewards of the better and of the worse answer of each pair |
| margins_P | [P] | h = chosen - rejected |
| good_B | [B] bool | was the answer judged good? |

P: pairs. B: answers that were judged one by one. Every loss, and its gradient, is finite however large a margin is.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Divergence = Literal["reverse_kl", "forward_kl", "js", "alpha"]

_LARGEST_EXPONENT: Final = 20.0
_LEAST_BETA: Final = 1e-3


def dpo(
    chosen_P: Tensor,
    rejected_P: Tensor,
    reference_chosen_P: Tensor,
    reference_rejected_P: Tensor,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log sigmoid(beta (log policy / reference of the chosen - the same of the rejected)), in nats.

    DPO (Rafailov et al., 2305.18290), equation 7. Where policy and reference agree it is log 2. Its gradient in the
    chosen's log-probability is -beta sigmoid(-margin), and lies within -beta and 0 however large the margin is.

    Args:
        chosen_P, rejected_P: [P] log-probability of each completion under the policy; carry the gradient.
        reference_chosen_P, reference_rejected_P: [P] the same under the frozen reference.
        beta: how strongly the policy is held to the reference; the paper's experiments have 0.1
            unless noted (appendix B).
        label_smoothing: see `logistic`.
    """
    shapes = {values.shape for values in (chosen_P, rejected_P, reference_chosen_P, reference_rejected_P)}
    assert len(shapes) == 1, shapes
    margins_P = beta * ((chosen_P - reference_chosen_P) - (rejected_P - reference_rejected_P))
    return logistic(margins_P, label_smoothing)


def logistic(margins_P: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """[P] -(1 - e) log sigmoid(h) - e log sigmoid(-h), in nats: DPO, and with e > 0 conservative DPO.

    cDPO (Mitchell, 2023, a note on DPO with noisy preferences): e is the probability that a label is flipped, and the
    minimum lies at sigmoid(h) = 1 - e instead of at infinity.
    """
    losses_P = -F.logsigmoid(margins_P)
    # -log sigmoid(-h) = h - log sigmoid(h), so both terms together are the first plus e h.
    return losses_P + label_smoothing * margins_P if label_smoothing else losses_P


def robust(margins_P: Tensor, flipped: float) -> Tensor:
    """[P] (-(1 - e) log sigmoid(h) + e log sigmoid(-h)) / (1 - 2 e): robust DPO (2403.00409), section 3.1.

    Where a share e < 1/2 of the labels is flipped at random, its expectation is DPO's loss on the true labels. It has
    no lower bound: it falls with slope e / (1 - 2 e) as h grows.
    """
    return -F.logsigmoid(margins_P) - flipped / (1.0 - 2.0 * flipped) * margins_P


def hinge(margins_P: Tensor) -> Tensor:
    """[P] max(0, 1 - h): RSO's hinge (2309.06657); with r = beta log policy, SLiC-HF's (2305.10425), over its delta."""
    return (1.0 - margins_P).clamp(min=0.0)


def ipo(margins_P: Tensor, tau: float) -> Tensor:
    """[P] (h / tau - 1 / (2 tau))^2, r = tau x: IPO (Azar et al., 2310.12036), equation 17.

    A regression with a finite optimum, also where all labels agree: a gap of 1 / (2 tau) between the log ratios.
    """
    return ((margins_P - 0.5) / tau).square()


def exo(margins_P: Tensor, label_smoothing: float) -> Tensor:
    """[P] KL((sigmoid(h), sigmoid(-h)) || (1 - e, e)), in nats: EXO (2402.00856), equation 16, of two answers.

    The reverse of cDPO's KL: it seeks a mode, where cDPO covers. It is 0 at sigmoid(h) = 1 - e, and bounded.
    """
    log_wins_P, log_losses_P = F.logsigmoid(margins_P), F.logsigmoid(-margins_P)
    wins_P, losses_P = margins_P.sigmoid(), (-margins_P).sigmoid()
    return wins_P * (log_wins_P - math.log1p(-label_smoothing)) + losses_P * (log_losses_P - math.log(label_smoothing))


def discopop(margins_P: Tensor, temperature: float) -> Tensor:
    """[P] (1 - m) (-log sigmoid(h)) + m exp(-h), m = sigmoid(h / t): DiscoPOP (2406.08414), equation 5.

    Found by a language model that wrote losses. It is not convex: with t = 0.05 its slope is the other way round from
    h = -0.12 to 0.07, so at the start, h = 0, it lowers the margin. A very negative margin has DPO's slope, since m
    falls faster than exp(-h) grows; with t > 1 it would explode.
    """
    assert 0.0 < temperature <= 1.0, temperature
    scaled_P = margins_P / temperature
    # One exponential of the sum: exp(-h) alone overflows where m is 0.
    exponential_P = (F.logsigmoid(scaled_P) - margins_P).exp()
    return (-scaled_P).sigmoid() * -F.logsigmoid(margins_P) + exponential_P


def dpop(chosen_P: Tensor, rejected_P: Tensor, weight: float) -> Tensor:
    """[P] -log sigmoid(h - weight max(0, -r of the chosen)): DPO-positive (Smaug, 2402.13228), equation 3.

    DPO may lower the chosen answer as long as the rejected one falls further. Here lowering the chosen one below its
    probability under the reference costs more than the gap can win.
    """
    assert chosen_P.shape == rejected_P.shape, (chosen_P.shape, rejected_P.shape)
    return -F.logsigmoid(chosen_P - rejected_P - weight * (-chosen_P).clamp(min=0.0))


def nca(chosen_P: Tensor, rejected_P: Tensor) -> Tensor:
    """[P] -log s(r_w) - (log s(-r_w) + log s(-r_l)) / 2, s the sigmoid: NCA (2402.05369), of a pair.

    Each answer is told from noise by its own probability, so the chosen one's has a floor: sigmoid(r_w) = 2/3.
    """
    assert chosen_P.shape == rejected_P.shape, (chosen_P.shape, rejected_P.shape)
    return -F.logsigmoid(chosen_P) - (F.logsigmoid(-chosen_P) + F.logsigmoid(-rejected_P)) / 2


def apo_zero(chosen_P: Tensor, rejected_P: Tensor) -> Tensor:
    """[P] -sigmoid(r_w) + sigmoid(r_l), plus 1: APO-zero (D'Oosterlinck et al., 2408.06266), equation 7.

    Raises the chosen answer and lowers the rejected one, each by itself: for answers better than the policy's own.
    """
    assert chosen_P.shape == rejected_P.shape, (chosen_P.shape, rejected_P.shape)
    return (-chosen_P).sigmoid() + rejected_P.sigmoid()


def apo_down(chosen_P: Tensor, rejected_P: Tensor) -> Tensor:
    """[P] sigmoid(r_w) - sigmoid(h), plus 1: APO-down (2408.06266), equation 8.

    Lowers both answers, and the rejected one further: for answers that are worse than the policy's own.
    """
    assert chosen_P.shape == rejected_P.shape, (chosen_P.shape, rejected_P.shape)
    return chosen_P.sigmoid() + (rejected_P - chosen_P).sigmoid()


def sppo(chosen_P: Tensor, rejected_P: Tensor, wins_P: Tensor, beta: float) -> Tensor:
    """[P] sum over both answers of (x - (P(it wins) - 1/2) / beta)^2, r = beta x: SPPO (2405.00675), equation 4.7.

    wins_P: [P] probability that the chosen answer beats the rejected one; the rejected one's is the rest. 1: a hard
    label. The paper estimates it against the policy itself, by the mean over K answers; its eta is 1 / beta.
    """
    assert chosen_P.shape == rejected_P.shape == wins_P.shape, (chosen_P.shape, rejected_P.shape, wins_P.shape)
    targets_P = wins_P.detach() - 0.5
    return ((chosen_P - targets_P) / beta).square() + ((rejected_P + targets_P) / beta).square()


def quantile_gaps(upper_P: Tensor, lower_P: Tensor) -> Tensor:
    """[P] by how much each quantile of the one sample exceeds the other's: AOT (2406.05882), section 3.

    All positive, the one dominates the other stochastically. Sorting is the optimal transport between two samples on
    a line; so entry p is of the p-th smallest values, and of no pair.
    """
    assert upper_P.shape == lower_P.shape, (upper_P.shape, lower_P.shape)
    return upper_P.sort().values - lower_P.sort().values


def kto(above_B: Tensor, good_B: Tensor, desirable: float = 1.0, undesirable: float = 1.0) -> Tensor:
    """[B] weight * (1 - sigmoid(+-(r - beta z0))), + for good answers: KTO (2402.01306), section 4.

    above_B: [B] reward less beta z0, the reference point, z0 = KL(policy || reference) in nats: a constant. Both ends
    are flat: an answer far above or below it teaches nothing.
    """
    assert above_B.shape == good_B.shape, (above_B.shape, good_B.shape)
    return torch.where(good_B, desirable * (-above_B).sigmoid(), undesirable * above_B.sigmoid())


def bco(above_B: Tensor, good_B: Tensor) -> Tensor:
    """[B] -log sigmoid(+-(r - shift)), + for good answers, in nats: BCO (2404.04656).

    The logistic loss of a classifier of good and bad, whose logit is the reward; an upper bound of DPO's.
    """
    assert above_B.shape == good_B.shape, (above_B.shape, good_B.shape)
    return -F.logsigmoid(torch.where(good_B, above_B, -above_B))


def log_odds(mean_logprobs: Tensor) -> Tensor:
    """log(p / (1 - p)), p the geometric mean of an answer's token probabilities: ORPO (2403.07691), equation 4.

    A p that has rounded to 1 counts as 1 - 1e-6, since its odds are infinite.
    """
    mean_logprobs = mean_logprobs.clamp(max=-1e-6)
    return mean_logprobs - (-mean_logprobs.expm1()).log()


def divergence_score(log_ratio: Tensor, divergence: Divergence, alpha: float) -> Tensor:
    """f'(policy / reference), up to a constant: what f-DPO (2309.16240), table 1, has in place of the log ratio x.

    reverse_kl: x, DPO's own. forward_kl: 1 - exp(-x). js: log 2 + log sigmoid(x). alpha: (1 - exp(-alpha x)) / alpha,
    which is reverse_kl in the limit 0, and forward_kl at 1. Beyond exp(20) an exponential goes on as its tangent, so
    that the gradient of a fallen answer is finite.
    """
    if divergence == "reverse_kl":
        return log_ratio
    if divergence == "js":
        return math.log(2.0) + F.logsigmoid(log_ratio)
    power = 1.0 if divergence == "forward_kl" else alpha
    return (1.0 - _exp_then_tangent(-power * log_ratio)) / power


def batch_beta(gaps_P: Tensor, mean_gap: Tensor, beta: float, scale: float) -> Tensor:
    """The beta of a whole step: beta (1 + scale (mean gap of its pairs - mean gap so far)), a constant.

    beta-DPO (2407.08639), section 4. No less than 1e-3, as in the authors' code. gaps_P: [P] x_w - x_l.
    """
    gap = gaps_P.detach().sum() / max(1, len(gaps_P))
    return (beta * (1.0 + scale * (gap - mean_gap))).clamp(min=_LEAST_BETA)


def _exp_then_tangent(exponent: Tensor) -> Tensor:
    limit = _LARGEST_EXPONENT
    return exponent.clamp(max=limit).exp() * (1.0 + (exponent - limit).clamp(min=0.0))
