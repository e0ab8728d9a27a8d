"""Which tokens of a batch are treated apart: by the covariance of log-probability and advantage, or by entropy.

Chosen within a micro-batch, as the papers' own code does: how a step is cut changes the choice a little.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def covariance(logprobs_A: Tensor, advantages_A: Tensor) -> Tensor:
    """[A] (log policy - its mean) * (A - its mean): how much each token takes part in the fall of the entropy.

    Cui et al., 2025, The Entropy Mechanism of RL for Reasoning Language Models (2505.22617), equation 9.
    """
    assert logprobs_A.shape == advantages_A.shape, (logprobs_A.shape, advantages_A.shape)
    logprobs_A = logprobs_A.detach()
    return (logprobs_A - logprobs_A.mean()) * (advantages_A - advantages_A.mean())


def within(values_A: Tensor, least: float, most: float, share: float) -> Tensor:
    """[A] bool: a share of all tokens, taken at random from those whose value lies between least and most.

    At least one where there is any. The draw depends on nothing but how many there are: a resumed run repeats it.
    """
    places_K = ((values_A > least) & (values_A < most)).nonzero()[:, 0]
    wanted = max(1, math.floor(share * len(values_A)))
    generator = torch.Generator().manual_seed(len(places_K))
    order_K = torch.randperm(len(places_K), generator=generator)[:wanted]
    return _at(places_K[order_K.to(places_K.device)], values_A)


def largest(values_A: Tensor, share: float) -> Tensor:
    """[A] bool: the share of all tokens with the largest values, at least one where there is any."""
    wanted = min(len(values_A), max(1, math.floor(share * len(values_A))))
    return _at(values_A.topk(wanted).indices, values_A)


def _at(places_K: Tensor, values_A: Tensor) -> Tensor:
    chosen_A = torch.zeros_like(values_A, dtype=torch.bool)
    chosen_A[places_K] = True
    return chosen_A
