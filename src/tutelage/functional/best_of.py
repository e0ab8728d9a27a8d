"""Best-of-n: how far it goes from the policy that it samples, and what it earns, from samples at hand."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def best_of_n_kl(n: int) -> float:
    """log n - (n - 1) / n, in nats: KL(best of n || policy) where no two answers tie and each is unlikely.

    Stiennon et al., 2020 (2009.01325), appendix G.3. For a policy whose answers have probabilities that matter it is a
    bound from above (Beirami et al., 2401.01879).
    """
    assert n >= 1, n
    return math.log(n) - (n - 1) / n


def best_of_n_mean(chosen_by_PG: Tensor, values_PG: Tensor, n: int) -> Tensor:
    """[P] the value of the best of n of the G answers to each prompt, a mean over all choices of n.

    The unbiased estimator of Nakano et al., 2021 (2112.09332), appendix I: the answer of rank r (from 0, the lowest) is
    the best of n in C(r, n - 1) of the C(G, n) choices.

    Args:
        chosen_by_PG: [P, G] the scores that the best is chosen by.
        values_PG: [P, G] what it is then worth: the same scores, or another judge's.
        n: at most G.
    """
    assert chosen_by_PG.shape == values_PG.shape, (chosen_by_PG.shape, values_PG.shape)
    groups = chosen_by_PG.shape[1]
    assert 1 <= n <= groups, (n, groups)
    ranked_PG = values_PG.gather(1, chosen_by_PG.argsort(dim=1, stable=True))
    weights_G = torch.tensor([math.comb(rank, n - 1) / math.comb(groups, n) for rank in range(groups)])
    return ranked_PG.double() @ weights_G.double()
