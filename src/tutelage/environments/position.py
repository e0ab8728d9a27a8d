"""Games for two as pure rules: positions, legal moves, payoffs, and what the side to move sees. No model is in here."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self


class Position(ABC):
    """A position of a zero-sum game for two; it never changes. A kind of game is a kind of position.

    Chance decides the beginning alone, and nothing afterwards. A user's own game inherits this and is named by
    `game = "module:Class"`.
    """

    rules: ClassVar[str]  # in words, for the prompt
    roles: ClassVar[tuple[str, str]]  # what who moves first is called, and the other
    stake: ClassVar[float]  # the most that can be lost: what a move against the rules costs

    @classmethod
    @abstractmethod
    def beginnings(cls) -> Sequence[Self]:
        """All positions that a game may begin with, each as likely as the others."""

    @property
    @abstractmethod
    def mover(self) -> int:
        """Whose move it is: 0 for the role that began, 1 for the other."""

    @property
    @abstractmethod
    def moves(self) -> tuple[str, ...]:
        """The legal moves, words in small letters; none where the game is over."""

    @abstractmethod
    def after(self, move: str) -> Self:
        """The position that a legal move leads to."""

    @property
    @abstractmethod
    def payoff(self) -> float:
        """What the first role has won where the game is over; the other has lost it."""

    @abstractmethod
    def seen(self) -> str:
        """All that the side to move knows, in words. What looks the same to it is the same to it."""

    @abstractmethod
    def optimal(self) -> Mapping[str, float]:
        """How an optimal player moves here: a probability for each of the moves."""

    def asked(self) -> str:
        """What the side to move is asked."""
        moves = ", ".join(f"[[{move}]]" for move in self.moves)
        return f"{self.rules}\n{self.seen()}\nYour moves: {moves}. Answer with one of them."

    @classmethod
    def read(cls, text: str, moves: Sequence[str]) -> str | None:
        """Which of these moves an answer names: in its last [[ ]], or else by being nothing but the move."""
        marked = re.findall(r"\[\[([^\[\]]*)\]\]", text)
        named = (marked[-1] if marked else text.strip().removesuffix(".")).strip().casefold()
        return named if named in moves else None
