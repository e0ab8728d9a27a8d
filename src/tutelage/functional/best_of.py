"""Best-of-n: how far it goes from the policy that it samples."""

from __future__ import annotations

import math


def best_of_n_kl(n: int) -> float:
    """log n - (n - 1) / n, in nats: KL(best of n || policy) where no two answers tie and each is unlikely.

    Stiennon et al., 2020 (2009.01325), appendix G.3. For a policy whose answers have probabilities that matter it is a
    bound from above (Beirami et al., 2401.01879).
    """
    assert n >= 1, n
    return math.log(n) - (n - 1) / n
