"""Which prompts a step asks: a function of the seed and the step's number alone, so a resumed run asks the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from tutelage.data.mixture import interleaved
from tutelage.seeds import derive_seed
from tutelage.types import Prompt


def prompts_of_step(prompts: Sequence[Prompt], step: int, count: int, seed: int) -> list[Prompt]:
    """The `count` prompts of step `step` (from 0). Every epoch asks all prompts once, in an order of its own.

    Of a mixture every step asks each part's share of prompts.
    """
    parts = tuple(prompt.part for prompt in prompts)
    places = [divmod(place, len(parts)) for place in range(step * count, (step + 1) * count)]
    orders = {epoch: _by_parts(parts, epoch, seed) for epoch, _ in places}
    return [prompts[orders[epoch][place]] for epoch, place in places]


def places_of_step(total: int, step: int, count: int, seed: int) -> list[int]:
    """The same as places in a data set of `total` entries. A step may reach over the end of an epoch."""
    places = range(step * count, (step + 1) * count)
    return [int(_shuffled(total, place // total, seed)[place % total]) for place in places]


@lru_cache(maxsize=4)
def _shuffled(total: int, epoch: int, seed: int) -> np.ndarray:
    return np.random.default_rng(derive_seed(seed, "epoch", epoch)).permutation(total)


@lru_cache(maxsize=4)
def _by_parts(parts: tuple[str | None, ...], epoch: int, seed: int) -> list[int]:
    shuffled = _shuffled(len(parts), epoch, seed).tolist()
    return [shuffled[place] for place in interleaved([parts[place] for place in shuffled])]
