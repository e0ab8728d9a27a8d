"""Many tests at once, and what a test can see: a correction for their number, and the least change that is found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

SIGNIFICANT = 0.05
POWER = 0.8  # a change of the detectable size is found 4 times in 5


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number (Holm, 1979), in the order given.

    Where those below a level are called changes, the chance to call any change that is none stays below that level,
    however the tests depend on each other. The smallest is multiplied by their number, the next by one less, and so
    on; none becomes smaller than one before it.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def detectable(deviation: float, n: int, tests: int = 1, power: float = POWER, counted: bool = False) -> float:
    """The change that a two-sided paired test finds with this power; a smaller one it misses more often.

    Args:
        deviation: the standard deviation of one question's change.
        n: questions that are asked twice.
        tests: how many are corrected together; the first step of Holm's divides the level by their number.
        counted: by McNemar's exact test, which can only see whole questions: it needs 1/n more, and is told nothing
            by n questions unless some of them change.
    """
    wanted = NormalDist().inv_cdf(1 - SIGNIFICANT / tests / 2) + NormalDist().inv_cdf(power)
    return wanted * deviation / math.sqrt(n) + counted / n


def questions_needed(change: float, deviation: float, tests: int = 1, power: float = POWER) -> int:
    """How many questions it takes for a change of this size to be found with this power."""
    wanted = NormalDist().inv_cdf(1 - SIGNIFICANT / tests / 2) + NormalDist().inv_cdf(power)
    return math.ceil((wanted * deviation / change) ** 2)
