"""Games under way: who sits where, lockstep for all of a step, and the rewards in the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from tutelage.environments.position import Position
from tutelage.environments.self_play import Play, Turn
from tutelage.seeds import derive_seed
from tutelage.types import Message, Prompt, Sample

Player = Callable[[Position, int], str]
"""Who moves by a rule: given the position and a seed for its choice."""


def random_player(position: Position, seed: int) -> str:
    """Any legal move, each as likely as the others."""
    return Random(seed).choice(position.moves)


def optimal_player(position: Position, seed: int) -> str:
    """As the game's optimal player draws it."""
    chances = position.optimal()
    return Random(seed).choices(list(chances), list(chances.values()))[0]


@dataclass(slots=True)
class Table:
    """One game under way.

    | Field | Meaning |
    |---|---|
    | number | the game's |
    | seed | of what players by rule draw |
    | position | as it is now |
    | seats | who plays either side; None: the policy |
    | moves | the policy's, each with its side |
    | offender | the side that broke the rules, which ended the game |
    """

    number: int
    seed: int
    position: Position
    seats: tuple[Player | None, Player | None] = (None, None)
    moves: list[tuple[int, Sample]] = field(default_factory=list[tuple[int, Sample]])
    offender: int | None = None
    _plies: int = 0

    @property
    def over(self) -> bool:
        return self.offender is not None or not self.position.moves

    @property
    def payoffs(self) -> tuple[float, float]:
        """What both sides have won in a game that is over. Who broke the rules loses the game's whole stake."""
        if self.offender is None:
            first = self.position.payoff
        else:
            first = -self.position.stake if self.offender == 0 else self.position.stake
        return first, -first

    def await_policy(self) -> bool:
        """Lets players by rule move until it is the policy's turn. False: the game is over."""
        while not self.over:
            player = self.seats[self.position.mover]
            if player is None:
                return True
            self._move(player(self.position, derive_seed(self.seed, "player", self._plies)))
        return False

    def take(self, sample: Sample) -> None:
        """The policy's move. One that is against the rules, or no move at all, ends the game."""
        side, move = self.position.mover, self.position.read(sample.text, self.position.moves)
        self.moves.append((side, sample))
        sample.episode, sample.rewards = self.number, {"legal": float(move is not None)}
        if move is None:
            self.offender = side
        else:
            self._move(move)

    def settle(self) -> None:
        """Every move of the policy gets what its side has won."""
        for side, sample in self.moves:
            sample.reward = self.payoffs[side]

    def _move(self, move: str) -> None:
        self.position = self.position.after(move)
        self._plies += 1


def lockstep(tables: Sequence[Table], game: str) -> Play:
    """Plays all games ply by ply. Those that look the same to who moves share a prompt.

    Args:
        game: its name, with which prompts are identified.
    """
    while waiting := [table for table in tables if table.await_policy()]:
        alike: dict[str, list[Table]] = {}
        for table in waiting:
            alike.setdefault(table.position.asked(), []).append(table)
        turns = [
            Turn(prompt_of(some[0].position, game), some[0].position.roles[some[0].position.mover], len(some))
            for some in alike.values()
        ]
        groups = yield turns
        assert groups is not None, "a play is sent the answers to its turns"
        for group, some in zip(groups, alike.values(), strict=True):
            for sample, table in zip(group.samples, some, strict=True):
                table.take(sample)
    for table in tables:
        table.settle()


def prompt_of(position: Position, game: str) -> Prompt:
    """What the side to move is asked."""
    return Prompt(f"{game}: {' '.join(position.seen().split())}", (Message("user", position.asked()),))
