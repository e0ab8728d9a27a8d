"""The environment `game`: a game for two that one policy plays with itself, or against a player by rule."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from random import Random
from typing import ClassVar, Final, cast

from tutelage.config import load_object, nearest
from tutelage.environments.kuhn_poker import KuhnPoker
from tutelage.environments.position import Position
from tutelage.environments.self_play import Play, SelfPlay
from tutelage.environments.table import Player, Table, lockstep, optimal_player, prompt_of, random_player
from tutelage.environments.tic_tac_toe import TicTacToe
from tutelage.errors import ConfigError
from tutelage.rewards import Reward
from tutelage.seeds import derive_seed
from tutelage.types import Prompt, Sample, Split

GAMES: Final[Mapping[str, type[Position]]] = {"kuhn-poker": KuhnPoker, "tic-tac-toe": TicTacToe}
OPPONENTS: Final[Mapping[str, Player]] = {"random": random_player, "optimal": optimal_player}

_LOOKED_AT = 64  # games of random moves, whose positions are the questions
_HELD_OUT = 4  # one question in so many


class LegalReward(Reward):
    """1 for a legal move, else 0: what an answer to a single position is worth."""

    isolated: ClassVar[bool] = False

    type: str = "legal"
    game: str

    def demonstrate(self, answer: str) -> str:
        return f"[[{answer}]]"

    def score(self, prompt: Prompt, sample: Sample) -> float:
        return float(kind_of(self.game, "game").read(sample.text, prompt.meta["moves"]) is not None)


class Game(SelfPlay):
    """A zero-sum game for two. Trained on, one policy plays both sides; evaluated, it sits on either in turn.

    Asked like other environments (by `sft`, say, before self-play), its questions are positions of random games, each
    as often as it has legal moves, and every one of these is a gold answer: that teaches the rules, and nothing about
    playing well.
    """

    type: str = "game"
    game: str  # kuhn-poker, tic-tac-toe, or module:Class

    def check(self, where: str) -> None:
        kind_of(self.game, f"{where}.game")

    def check_attempts(self, attempts: int, where: str) -> None:
        if attempts != 1:
            raise ConfigError(
                f"{where}: {attempts} answers to a position would be as many games; in a game every move is made once: "
                "set it to 1, and prompts_per_step to the number of games"
            )

    def play(self, episodes: Sequence[int], attempts: int, seed: int, found: list[str]) -> Play:
        return lockstep([self._table(number, seed) for number in episodes], self.game)

    def tables(self, games: int, opponent: str, seed: int) -> list[Table]:
        """Games against an opponent, in pairs that begin alike: once the policy moves first, once the other does."""
        player = OPPONENTS[opponent]
        return [
            Table(
                number=number,
                seed=derive_seed(seed, number),
                position=self._beginning(derive_seed(seed, number // 2)),
                seats=(None, player) if number % 2 == 0 else (player, None),
            )
            for number in range(games)
        ]

    def examples(self) -> Sequence[Prompt]:
        return [*self._splits["train"], *self._splits["test"]]

    def prompts(self, split: Split) -> Sequence[Prompt]:
        return self._splits[split]

    def scorer(self) -> Reward:
        return LegalReward(game=self.game)

    def _beginning(self, seed: int) -> Position:
        return Random(seed).choice(kind_of(self.game, "game").beginnings())

    def _table(self, number: int, seed: int) -> Table:
        own = derive_seed(seed, number)
        return Table(number, own, self._beginning(own))

    @cached_property
    def _splits(self) -> dict[Split, list[Prompt]]:
        splits: dict[Split, list[Prompt]] = {"train": [], "test": []}
        for position in self._positions():
            prompt = prompt_of(position, self.game)
            split = "test" if derive_seed(prompt.id) % _HELD_OUT == 0 else "train"
            moves = {"moves": position.moves}
            splits[split] += [replace(prompt, id=f"{prompt.id} {m}", answer=m, meta=moves) for m in position.moves]
        return splits

    def _positions(self) -> Collection[Position]:
        """Those of some games of random moves, as who moves sees them."""
        found: dict[str, Position] = {}
        for number in range(_LOOKED_AT):
            position, ply = self._beginning(number), 0
            while position.moves:
                found[position.seen()] = position
                position, ply = position.after(random_player(position, derive_seed(number, ply))), ply + 1
        return found.values()


def kind_of(game: str, where: str) -> type[Position]:
    """The rules of a game by its name, or a user's own. Raises ConfigError with the remedy."""
    if game in GAMES:
        return GAMES[game]
    if ":" not in game:
        raise ConfigError(f"{where}: unknown '{game}': {nearest(game, list(GAMES))}")
    kind = load_object(game, where)
    if not (isinstance(kind, type) and issubclass(kind, Position)):
        raise ConfigError(f"{where}: '{game}' is not a subclass of {Position.__module__}.Position")
    return cast(type[Position], kind)
