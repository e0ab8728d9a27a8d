"""Tic-tac-toe by its rules. With best play nobody wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Final, Self

from tutelage.environments.position import Position

_LINES: Final = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


@dataclass(frozen=True, slots=True)
class TicTacToe(Position):
    """Nine cells, each X, O or free; X begins, and three in a row win."""

    rules: ClassVar[str] = "Tic-tac-toe: X and O mark free cells in turn; three in a row, column or diagonal win."
    roles: ClassVar[tuple[str, str]] = ("X", "O")
    stake: ClassVar[float] = 1.0

    cells: str = "." * 9  # row by row; "." is free

    @classmethod
    def beginnings(cls) -> Sequence[Self]:
        return (cls(),)

    @property
    def mover(self) -> int:
        return self.cells.count("X") - self.cells.count("O")

    @property
    def moves(self) -> tuple[str, ...]:
        return () if self.payoff else tuple(str(i + 1) for i, cell in enumerate(self.cells) if cell == ".")

    def after(self, move: str) -> Self:
        place = int(move) - 1
        return type(self)(self.cells[:place] + self.roles[self.mover] + self.cells[place + 1 :])

    @property
    def payoff(self) -> float:
        for line in _LINES:
            marks = {self.cells[place] for place in line}
            if len(marks) == 1 and marks != {"."}:
                return 1.0 if marks == {"X"} else -1.0
        return 0.0

    def seen(self) -> str:
        shown = [str(i + 1) if cell == "." else cell for i, cell in enumerate(self.cells)]
        rows = "\n".join(" ".join(shown[i : i + 3]) for i in (0, 3, 6))
        return f"{rows}\nYou are {self.roles[self.mover]}."

    def optimal(self) -> Mapping[str, float]:
        """Any of the moves with the best value, each as likely as the others."""
        sign = 1.0 if self.mover == 0 else -1.0
        values = {move: sign * value_of(self.after(move)) for move in self.moves}
        best = [move for move, value in values.items() if value == max(values.values())]
        return dict.fromkeys(best, 1.0 / len(best))


@cache
def value_of(position: TicTacToe) -> float:
    """What X wins from here on where both play best: minimax over all 5,478 positions."""
    if not position.moves:
        return position.payoff
    values = [value_of(position.after(move)) for move in position.moves]
    return max(values) if position.mover == 0 else min(values)
