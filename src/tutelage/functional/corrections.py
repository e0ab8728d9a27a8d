"""Importance weights for samples of a policy that is not quite the learner: a faster sampler, or an older version."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tutelage.functional.ratios import token_ratio


def importance_weights(
    learner_A: Tensor, sampler_A: Tensor, kind: Literal["full", "truncate", "mask"], least: float, most: float
) -> Tensor:
    """[A] learner / sampler of each token, detached: whole, no more than `most`, or 0 outside of least to most.

    Args:
        learner_A: [A] log-probabilities under the learner as it was when the step began.
        sampler_A: [A] log-probabilities that the sampler reported.
    """
    weight_A = token_ratio(learner_A, sampler_A).detach()
    if kind == "truncate":
        return weight_A.clamp(max=most)
    if kind == "mask":
        return torch.where((weight_A >= least) & (weight_A <= most), weight_A, 0.0)
    return weight_A
