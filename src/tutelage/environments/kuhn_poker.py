"""Kuhn poker by its rules, with an equilibrium. Kuhn, 1950, *A simplified two-person poker*."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar, Final, Self

from tutelage.environments.position import Position

_RANKS: Final = "JQK"
_NAMES: Final[Mapping[str, str]] = {"J": "jack", "Q": "queen", "K": "king"}
_BOLDNESS: Final = 1 / 3  # of who begins, 0 to 1/3: each is an equilibrium


@dataclass(frozen=True, slots=True)
class KuhnPoker(Position):
    """Three cards, two players with one each and a coin in the pot; a bet is one more. Who begins loses 1/18 a game."""

    rules: ClassVar[str] = (
        "Kuhn poker: the cards are jack, queen, king; both players hold one and have put 1 coin into the pot. A bet is "
        "1 more coin: the other calls it with 1 coin, or folds and loses. The higher card wins."
    )
    roles: ClassVar[tuple[str, str]] = ("first", "second")
    stake: ClassVar[float] = 2.0

    cards: str = "JQ"  # of who begins, and of the other
    history: tuple[str, ...] = ()

    @classmethod
    def beginnings(cls) -> Sequence[Self]:
        return [cls("".join(deal)) for deal in permutations(_RANKS, 2)]

    @property
    def mover(self) -> int:
        return len(self.history) % 2

    @property
    def moves(self) -> tuple[str, ...]:
        if self.history in ((), ("check",)):
            return ("check", "bet")
        return ("fold", "call") if self.history[-1] == "bet" else ()

    def after(self, move: str) -> Self:
        return type(self)(self.cards, (*self.history, move))

    @property
    def payoff(self) -> float:
        if self.history[-1] == "fold":
            return -1.0 if len(self.history) % 2 else 1.0
        higher = _RANKS.index(self.cards[0]) > _RANKS.index(self.cards[1])
        coins = 2.0 if "bet" in self.history else 1.0
        return coins if higher else -coins

    def seen(self) -> str:
        so_far = ", ".join(f"{self._whose(i)}: {move}" for i, move in enumerate(self.history)) or "nothing yet"
        return f"So far: {so_far}. Your card: {_NAMES[self.cards[self.mover]]}."

    def _whose(self, turn: int) -> str:
        return "you" if turn % 2 == self.mover else "the other"

    def optimal(self) -> Mapping[str, float]:
        card, bold = self.cards[self.mover], _BOLDNESS
        if self.history == ():
            bets = {"J": bold, "Q": 0.0, "K": 3 * bold}[card]
        elif self.history == ("check",):
            bets = {"J": 1 / 3, "Q": 0.0, "K": 1.0}[card]
        else:  # a bet is to be called; a queen of who checked first does it more often, the bolder it bets a jack
            calls = {"J": 0.0, "Q": 1 / 3 + (bold if self.mover == 0 else 0.0), "K": 1.0}[card]
            return {"fold": 1.0 - calls, "call": calls}
        return {"check": 1.0 - bets, "bet": bets}
