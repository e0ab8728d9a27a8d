"""Mixtures: several data sets as one, each with its share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import TypeVar

from tutelage.data.chat import Conversation
from tutelage.data.preferences import Judged
from tutelage.seeds import derive_seed
from tutelage.types import Prompt

T = TypeVar("T", Prompt, Conversation, Judged)


def mix(parts: Sequence[Sequence[T]], weights: Sequence[float], rows: int, seed: int) -> list[T]:
    """`rows` items of the parts, in proportion to the weights, in an order that the seed decides.

    A part gives every item once before any comes again, then all of them in a new order. An item's id gets the numbers
    of its part and of the time round before it, as in `2.1/first.jsonl:7`: ids stay distinct.
    """
    mixed = [
        _renamed(item, f"{number}.{time}/{item.id}")
        for number, (part, count) in enumerate(zip(parts, _counts(weights, rows), strict=True), start=1)
        for (time, item), _ in zip(_rounds(part, seed, number), range(count), strict=False)
    ]
    Random(derive_seed(seed, "mixture")).shuffle(mixed)
    return mixed


def interleaved(names: Sequence[str | None]) -> list[int]:
    """The places of things in an order of which any stretch holds, of each name, its share, to within one or so.

    The first of n with the same name comes at 1/2n of the way, the next at 3/2n, ...: they stay in their own order.
    """
    sizes, seen = Counter(names), Counter[str | None]()
    way: list[float] = []
    for name in names:
        way.append((seen[name] + 0.5) / sizes[name])
        seen[name] += 1
    return sorted(range(len(names)), key=way.__getitem__)


def weights_of_sizes(sizes: Sequence[int], temperature: float) -> list[float]:
    """Weights in proportion to size ** (1 / temperature): 1 keeps the sizes, the higher the more alike they are."""
    largest = max(sizes)
    return [(size / largest) ** (1 / temperature) for size in sizes]


def _counts(weights: Sequence[float], rows: int) -> list[int]:
    """How many of `rows` each weight gets: the whole shares, and what is left to the largest remainders."""
    shares = [rows * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: counts[i] - shares[i])
    for i in by_remainder[: rows - sum(counts)]:
        counts[i] += 1
    return counts


def _rounds(part: Sequence[T], seed: int, number: int) -> Iterator[tuple[int, T]]:
    """The items of a part, time and again, each time in another order."""
    time = 0
    while True:
        time += 1
        for place in Random(derive_seed(seed, "mixture", number, time)).sample(range(len(part)), len(part)):
            yield time, part[place]


def _renamed(item: T, name: str) -> T:
    if isinstance(item, Judged):
        return replace(item, prompt=replace(item.prompt, id=name))
    return replace(item, id=name)
