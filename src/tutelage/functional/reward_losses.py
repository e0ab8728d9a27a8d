"""Losses of reward models, not yet reduced.

A: scored answers, or steps of answers. P: pairs of answers to one prompt.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pairs_within(group_A: Tensor, judged_A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All pairs of one group of which the one was judged better than the other.

    InstructGPT (2203.02155), section 3.5: all comparisons of the K answers to a prompt go into one element of the
    batch, and that element is divided by their number.

    Args:
        group_A: [A] int64 which prompt each answer belongs to.
        judged_A: [A] what it was judged to be worth; more is better, equal ones make no pair.

    Returns:
        better_P, worse_P: [P] int64 places in A. share_P: 1 / the pairs of the same prompt.
    """
    assert group_A.shape == judged_A.shape, (group_A.shape, judged_A.shape)
    assert group_A.ndim == 1, group_A.shape
    together_AA = group_A[:, None] == group_A[None, :]
    wins_AA = together_AA & (judged_A[:, None] > judged_A[None, :])
    pairs_A = (together_AA.double() @ wins_AA.sum(1).double()).to(judged_A.dtype)  # of each answer's prompt
    better_P, worse_P = wins_AA.nonzero().unbind(1)
    return better_P, worse_P, 1.0 / pairs_A[better_P]


def bradley_terry(better_P: Tensor, worse_P: Tensor, margin_P: Tensor | float = 0.0) -> Tensor:
    """[P] -log sigmoid(better - worse - margin), in nats: minus the log-probability of the judgement.

    Bradley and Terry, 1952; the margin is Llama 2's (2307.09288, equation 2): more where the judges were surer.
    """
    assert better_P.shape == worse_P.shape, (better_P.shape, worse_P.shape)
    return -F.logsigmoid(better_P - worse_P - margin_P)


def soft_bradley_terry(better_P: Tensor, worse_P: Tensor, probability_P: Tensor) -> Tensor:
    """[P] cross-entropy, in nats, of sigmoid(better - worse) with the probability that the one *is* better.

    Constitutional AI (2212.08073), section 4.1: a model's judgements, as probabilities, clamped before.
    """
    assert better_P.shape == worse_P.shape == probability_P.shape, (better_P.shape, worse_P.shape, probability_P.shape)
    return outcome(better_P - worse_P, probability_P)


def off_centre(better_P: Tensor, worse_P: Tensor) -> Tensor:
    """[P] (better + worse)^2: pairs leave the mean of the scores open, this draws it to 0 (2312.09244)."""
    assert better_P.shape == worse_P.shape, (better_P.shape, worse_P.shape)
    return (better_P + worse_P).square()


def outcome(scores_A: Tensor, right_A: Tensor) -> Tensor:
    """[A] cross-entropy, in nats, of the probability sigmoid(score) that an answer, or a step, is right.

    Cobbe et al., 2021 (2110.14168) for answers; Lightman et al., 2023 (2305.20050) for steps.

    Args:
        right_A: 1 or 0, or the share of continuations from there that came out right (2312.08935).
    """
    assert scores_A.shape == right_A.shape, (scores_A.shape, right_A.shape)
    return F.binary_cross_entropy_with_logits(scores_A, right_A, reduction="none")


def regression(scores_A: Tensor, judged_A: Tensor) -> Tensor:
    """[A] squared error of the score (HelpSteer2, 2406.08673)."""
    assert scores_A.shape == judged_A.shape, (scores_A.shape, judged_A.shape)
    return (scores_A - judged_A).square()
