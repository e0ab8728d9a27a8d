"""How far probabilities can be believed."""

from __future__ import annotations

from collections.abc import Sequence

_BINS = 10


def calibration_error(claimed: Sequence[float], found: Sequence[float], least: float = 0.0) -> float:
    """How far what is found lies from the probability that was claimed (Guo et al., 1706.04599).

    A mean over all claims, in ten bins of the claimed probability.

    Args:
        claimed: probabilities, from `least` to 1.
        found: 1 or 0 for what was claimed, or a share.
        least: what the bins begin at: 0.5 where the more probable of two is claimed.
    """
    bins: dict[int, float] = {}
    for probability, share in zip(claimed, found, strict=True):
        place = min(_BINS - 1, int((probability - least) / (1.0 - least) * _BINS))
        bins[place] = bins.get(place, 0.0) + probability - share
    return sum(map(abs, bins.values())) / len(claimed)
