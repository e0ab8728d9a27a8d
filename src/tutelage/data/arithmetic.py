"""Sums, differences and products, with a held-out split: what the environment `arithmetic` asks, and texts tell."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from math import isqrt
from random import Random
from typing import Annotated, Final, Literal

from pydantic import Field, PositiveInt, model_validator

from tutelage.config import Part
from tutelage.errors import ConfigError
from tutelage.seeds import derive_seed
from tutelage.types import Split

Operator = Literal["+", "-", "*"]
Question = tuple[int, Operator, int]

_COMPUTE: Final[dict[Operator, Callable[[int, int], int]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}


def compute(question: Question) -> int:
    """The right answer."""
    a, op, b = question
    return _COMPUTE[op](a, b)


def expression(question: Question) -> str:
    """As people write it: `12 + 7`."""
    return "{} {} {}".format(*question)


def swapped(question: Question) -> Question:
    """The same with its operands the other way round."""
    a, op, b = question
    return b, op, a


class ArithmeticQuestions(Part):
    """Questions `a op b`. The test questions are drawn from all there are, those for training from the others.

    A question is kept out of training also where its operands are only swapped (12 + 7 and 7 + 12). The test questions
    depend on the seed, not on how many there are to train on.
    """

    operators: Annotated[tuple[Operator, ...], Field(min_length=1)] = ("+", "-", "*")
    digits: PositiveInt | None = None  # of both operands, in the place of minimum and maximum
    minimum: int = 0  # of either operand
    maximum: int = 20
    negative_results: bool = False
    train_questions: PositiveInt = 512
    test_questions: PositiveInt = 200
    seed: int = 0

    @model_validator(mode="after")
    def _range_is_one(self) -> ArithmeticQuestions:
        if self.digits is not None and {"minimum", "maximum"} & self.model_fields_set:
            raise ValueError("give either digits or minimum and maximum")
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        if len(set(self.operators)) < len(self.operators):
            raise ValueError("operators: each only once")
        return self

    @property
    def operands(self) -> tuple[int, int]:
        """The least and the greatest operand."""
        if self.digits is None:
            return self.minimum, self.maximum
        return (0 if self.digits == 1 else 10 ** (self.digits - 1)), 10**self.digits - 1

    def splits(self) -> dict[Split, list[Question]]:
        """The questions of both splits. Raises ConfigError where there are not as many."""
        space = sum(self._size(op) for op in self.operators)
        wanted = self.train_questions + self.test_questions
        if wanted > space:
            raise ConfigError(
                f"train_questions + test_questions = {wanted}, but only {space} different questions exist with "
                f"operands of {self.operands[0]} to {self.operands[1]}: widen their range, or ask for fewer"
            )
        test = [self._question(i) for i in _draw(self.seed, "test", space, self.test_questions)]
        held_out = {*test, *(swapped(question) for question in test)}
        enough = min(space, self.train_questions + len(held_out))
        drawn = [self._question(i) for i in _draw(self.seed, "train", space, enough)]
        train = [question for question in drawn if question not in held_out][: self.train_questions]
        if len(train) < self.train_questions:
            raise ConfigError(
                f"train_questions = {self.train_questions}, but of {space} different questions {len(train)} are left "
                f"without the {self.test_questions} for testing and those with their operands swapped: "
                "widen the operands' range, or ask for fewer"
            )
        return {"train": train, "test": test}

    def _size(self, op: Operator) -> int:
        low, high = self.operands
        count = high - low + 1
        return count * (count + 1) // 2 if self._ordered(op) else count * count

    def _ordered(self, op: Operator) -> bool:
        """Is the first operand never the smaller one?"""
        return op == "-" and not self.negative_results

    def _question(self, place: int) -> Question:
        """The question at a place among all there are: each has one place, and each place has one."""
        for op in self.operators:
            size = self._size(op)
            if place < size:
                return self._pair(place, op)
            place -= size
        raise IndexError(place)

    def _pair(self, place: int, op: Operator) -> Question:
        low, high = self.operands
        if self._ordered(op):  # row r of a triangle: the r + 1 pairs whose first operand is low + r
            row = (isqrt(8 * place + 1) - 1) // 2
            return low + row, op, low + place - row * (row + 1) // 2
        first, second = divmod(place, high - low + 1)
        return low + first, op, low + second


def _draw(seed: int, split: Split, space: int, count: int) -> list[int]:
    random = Random(derive_seed(seed, "arithmetic", split))
    if space <= sys.maxsize:
        return random.sample(range(space), count)
    drawn: dict[int, None] = {}  # from more than `sample` can count: as good as never the same one twice
    while len(drawn) < count:
        drawn[random.randrange(space)] = None
    return list(drawn)
