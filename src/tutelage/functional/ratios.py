"""Importance ratios policy / behaviour, at the level of tokens and of sequences."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from tutelage.functional.reductions import sequence_means, sequence_sums

# exp(20) = 4.9e8: far outside every clip range, and finite in every float type but fp16.
LOG_RATIO_LIMIT: Final = 20.0


def _ratio(log_ratio: Tensor) -> Tensor:
    """exp, with the log-ratio held within +-20: beyond it the ratio is finite and without gradient."""
    return log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def token_ratio(logprobs_A: Tensor, behaviour_A: Tensor) -> Tensor:
    """[A] policy / behaviour of each token."""
    assert logprobs_A.shape == behaviour_A.shape, (logprobs_A.shape, behaviour_A.shape)
    return _ratio(logprobs_A - behaviour_A)


def sequence_ratio(logprobs_A: Tensor, behaviour_A: Tensor, sequence_A: Tensor, sequences: int) -> Tensor:
    """[B] (policy / behaviour)^(1 / length) of each sequence, the geometric mean of its tokens' ratios.

    The s_i of GSPO (2507.18071), equation 7. A sequence without actions has ratio 1.
    """
    assert logprobs_A.shape == behaviour_A.shape, (logprobs_A.shape, behaviour_A.shape)
    return _ratio(sequence_means(logprobs_A - behaviour_A, sequence_A, sequences))


def whole_ratio(logprobs_A: Tensor, behaviour_A: Tensor, sequence_A: Tensor, sequences: int) -> Tensor:
    """[B] policy / behaviour of each sequence as one action: the product of its tokens' ratios."""
    assert logprobs_A.shape == behaviour_A.shape, (logprobs_A.shape, behaviour_A.shape)
    return _ratio(sequence_sums(logprobs_A - behaviour_A, sequence_A, sequences))


def sequence_ratio_by_token(logprobs_A: Tensor, behaviour_A: Tensor, sequence_A: Tensor, sequences: int) -> Tensor:
    """[A] the sequence's ratio in value, each token's own in gradient: GSPO-token (2507.18071), equation 14."""
    ratio_B = sequence_ratio(logprobs_A.detach(), behaviour_A, sequence_A, sequences)
    return ratio_B[sequence_A] * (logprobs_A - logprobs_A.detach()).exp()


def geometric_ratio(
    logprobs_A: Tensor,
    behaviour_A: Tensor,
    advantages_A: Tensor,
    sequence_A: Tensor,
    sequences: int,
    clip_low: float,
    clip_high: float,
) -> tuple[Tensor, Tensor]:
    """[B] geometric mean of the tokens' ratios, each clipped on the log scale where its advantage would push it
    further.

    GMPO (Zhao et al., 2507.20673), equation 4; the second result is [A] bool, where the clip holds.

    Args:
        clip_low, clip_high: how far the log-ratio may go below and above 0; the paper has 0.4 for both.
    """
    log_ratio_A = logprobs_A - behaviour_A
    too_low_A = (log_ratio_A < -clip_low) & (advantages_A < 0)
    too_high_A = (log_ratio_A > clip_high) & (advantages_A > 0)
    held_A = torch.where(too_low_A | too_high_A, log_ratio_A.clamp(-clip_low, clip_high), log_ratio_A)
    return _ratio(sequence_means(held_A, sequence_A, sequences)), too_low_A | too_high_A
