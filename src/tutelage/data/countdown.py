"""The countdown game, with a held-out split: what the environment `countdown` asks, and texts tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from random import Random
from typing import Annotated, Final, NamedTuple

from pydantic import Field, PositiveInt, model_validator

from tutelage.config import Part
from tutelage.data.arithmetic import Operator, Question, compute, expression
from tutelage.errors import ConfigError
from tutelage.seeds import derive_seed
from tutelage.types import Split

_TRIES: Final = 100  # for each question that is wanted
_OPERATORS: Final[tuple[Operator, ...]] = ("+", "-", "*")

Way = tuple[Question, ...]
"""How numbers are combined, two at a time, until one is left."""


class Game(NamedTuple):
    """Numbers, in ascending order, each of which is to be used once, and what is to come out."""

    numbers: tuple[int, ...]
    target: int


class CountdownQuestions(Part):
    """Make a target out of some numbers with +, - and *, each number once. Every one of them can be solved.

    The test questions depend on the seed, not on how many there are to train on. No value on the way is negative.
    """

    numbers: Annotated[int, Field(ge=2, le=4)] = 3  # in a question
    minimum: PositiveInt = 1  # of each
    maximum: PositiveInt = 12
    largest: PositiveInt = 99  # target
    train_questions: PositiveInt = 512
    test_questions: PositiveInt = 200
    seed: int = 0

    @model_validator(mode="after")
    def _range_is_one(self) -> CountdownQuestions:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self

    def splits(self) -> dict[Split, list[Game]]:
        """The questions of both splits. Raises ConfigError where there are not as many."""
        test = self._drawn("test", self.test_questions, set())
        return {"train": self._drawn("train", self.train_questions, set(test)), "test": test}

    def _drawn(self, split: Split, wanted: int, taken: set[Game]) -> list[Game]:
        random = Random(derive_seed(self.seed, "countdown", split))
        found: dict[Game, None] = {}
        for _ in range(_TRIES * wanted):
            numbers = tuple(sorted(random.randint(self.minimum, self.maximum) for _ in range(self.numbers)))
            targets = sorted({value_of_way(way) for way in ways(numbers)} & set(range(1, self.largest + 1)))
            if targets and (game := Game(numbers, random.choice(targets))) not in taken:
                found[game] = None
            if len(found) == wanted:
                return list(found)
        raise ConfigError(
            f"{split}_questions = {wanted}, but {_TRIES * wanted:,} tries found only {len(found)} different ones: "
            "widen the range from minimum to maximum, raise largest or numbers, or ask for fewer"
        )


@lru_cache(maxsize=4096)
def ways(numbers: tuple[int, ...]) -> tuple[Way, ...]:
    """All ways to combine the numbers, the greater one first in a difference."""
    return tuple(_ways(numbers))


def _ways(numbers: tuple[int, ...]) -> Iterator[Way]:
    if len(numbers) == 1:
        yield ()
    for i in range(len(numbers)):
        for j in range(i + 1, len(numbers)):
            rest = (*numbers[:i], *numbers[i + 1 : j], *numbers[j + 1 :])
            for op in _OPERATORS:
                a, b = numbers[i], numbers[j]
                step = (max(a, b), op, min(a, b)) if op == "-" else (a, op, b)
                yield from ((step, *further) for further in _ways((compute(step), *rest)))


def value_of_way(way: Way) -> int:
    """What comes out in the end."""
    return compute(way[-1])


def written(way: Way) -> str:
    """As one expression: `(3 + 5) * 9`."""
    made: list[tuple[int, str]] = []
    for a, op, b in way:
        left, right = _taken(made, a), _taken(made, b)
        made.append((compute((a, op, b)), f"({left} {op} {right})"))
    return made[-1][1][1:-1]


def _taken(made: list[tuple[int, str]], value: int) -> str:
    """The expression of a value that was made before, which is then gone; else the value is one of the numbers.

    Where both are there, either gives the same value. What is left over in the end would be missing, so it is taken.
    """
    for place, (own, text) in enumerate(made):
        if own == value:
            del made[place]
            return text
    return str(value)


def attempt(way: Way) -> str:
    """A way as a line: `3 + 5 = 8, 8 * 9 = 72`."""
    return ", ".join(f"{expression(step)} = {compute(step)}" for step in way)


def search(game: Game, wrong: int, avoid: Sequence[Game] | set[Game], random: Random) -> list[Way]:
    """So many ways that come out wrong, or as many as there are, and then one that is right.

    Args:
        avoid: games that none of the wrong ways may happen to solve.
    """
    all_ways = ways(game.numbers)
    values = [value_of_way(way) for way in all_ways]
    failed = [
        way
        for way, value in zip(all_ways, values, strict=True)
        if value != game.target and Game(game.numbers, value) not in avoid
    ]
    right = random.choice([way for way, value in zip(all_ways, values, strict=True) if value == game.target])
    return [*random.sample(failed, min(wrong, len(failed))), right]
