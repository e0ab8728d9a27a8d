"""A language of sums: assignments, then one expression. Programs are read and computed here, by us: nothing is run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from operator import add, mul, sub
from typing import Final

MOST: Final = 10**9  # no value on the way may be farther from 0
_DEEPEST: Final = 20  # brackets and signs within one another

_TOKEN: Final = re.compile(r"\s*(?:(?P<number>[0-9]+)|(?P<name>[a-z_][a-z0-9_]*)|(?P<sign>[-+*()]))")
_SUMS: Final[Mapping[str, Callable[[int, int], int]]] = {"+": add, "-": sub}


class ProgramError(ValueError):
    """A text is no program of this language; the message says why."""


def value_of(program: str) -> int:
    """The value of a program's last line. Lines are `name = expression`, the last one is an expression.

    Raises:
        ProgramError: it is not of this language, reads a name without a value, or a value on the way grows too large.
    """
    *before, last = [line for line in program.splitlines() if line.strip()] or [""]
    names: dict[str, int] = {}
    for line in before:
        name, sign, rest = line.partition("=")
        if not sign or not re.fullmatch(r"[a-z_][a-z0-9_]*", name.strip()):
            raise ProgramError(f"'{line.strip()}' is no assignment")
        names[name.strip()] = _Reader(rest, names).value()
    return _Reader(last, names).value()


class _Reader:
    """One expression, read from left to right: sums of products of numbers, names, negatives and brackets."""

    def __init__(self, text: str, names: Mapping[str, int]) -> None:
        self._names, self._place, self._depth = names, 0, 0
        self._tokens = _tokens(text)

    def value(self) -> int:
        value = self._sum()
        if self._place < len(self._tokens):
            raise ProgramError(f"'{self._tokens[self._place]}' is one too many")
        return value

    def _next(self, *wanted: str) -> str | None:
        """The next token, taken, if it is one of the wanted."""
        if self._place < len(self._tokens) and (not wanted or self._tokens[self._place] in wanted):
            self._place += 1
            return self._tokens[self._place - 1]
        return None

    def _sum(self) -> int:
        value = self._product()
        while sign := self._next("+", "-"):
            value = _bounded(_SUMS[sign](value, self._product()))
        return value

    def _product(self) -> int:
        value = self._factor()
        while self._next("*"):
            value = _bounded(mul(value, self._factor()))
        return value

    def _factor(self) -> int:
        token = self._next()
        if token is None:
            raise ProgramError("an expression ends too early")
        if token in ("-", "("):
            return self._within(token)
        if token.isdecimal():
            return _bounded(int(token))
        if token not in self._names:
            raise ProgramError(f"'{token}' has no value here")
        return self._names[token]

    def _within(self, token: str) -> int:
        """What a sign or a bracket holds."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ProgramError(f"more than {_DEEPEST} brackets and signs are within one another")
        value = -self._factor() if token == "-" else self._sum()
        if token == "(" and not self._next(")"):
            raise ProgramError("a bracket is not closed")
        self._depth -= 1
        return value


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    place, text = 0, text.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise ProgramError(f"'{text[place:].strip()}' is not of this language")
        tokens.append(match.group().strip())
        place = match.end()
    return tokens


def _bounded(value: int) -> int:
    if abs(value) > MOST:
        raise ProgramError(f"a value is beyond {MOST:,}")
    return value
