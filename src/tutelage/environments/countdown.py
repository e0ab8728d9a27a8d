"""The environment `countdown`: make a target out of some numbers, each used once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from random import Random

from pydantic import field_validator

from tutelage.data.countdown import CountdownQuestions, Game, search, written
from tutelage.data.countdown_text import ask
from tutelage.environments.base import Environment
from tutelage.errors import ConfigError
from tutelage.rewards import CountdownReward, Reward
from tutelage.seeds import derive_seed
from tutelage.types import Message, Prompt, Split


class Countdown(CountdownQuestions, Environment):
    """The questions of `CountdownQuestions`, asked in words. Any expression that is right will do."""

    type: str = "countdown"
    question: str = "Make {target} from {numbers} with +, - and *, each number once. End with a line that is only that."

    @field_validator("question")
    @classmethod
    def _holds_the_game(cls, question: str) -> str:
        if "{numbers}" not in question or "{target}" not in question:
            raise ValueError("must hold {numbers}, which becomes for example '3, 5, 9', and {target}")
        return question

    def check(self, where: str) -> None:
        try:
            self.prompts("train")
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    def prompts(self, split: Split) -> Sequence[Prompt]:
        return _prompts(self)[split]

    def scorer(self) -> Reward:
        return CountdownReward()


@lru_cache(maxsize=8)
def _prompts(environment: Countdown) -> dict[Split, tuple[Prompt, ...]]:
    return {split: tuple(_prompt(environment, game) for game in games) for split, games in environment.splits().items()}


def _prompt(environment: Countdown, game: Game) -> Prompt:
    name = f"countdown:{','.join(map(str, game.numbers))}:{game.target}"
    (right,) = search(game, 0, (), Random(derive_seed(environment.seed, name)))
    return Prompt(
        name,
        (Message("user", ask(environment.question, game)),),
        answer=written(right),
        meta={"numbers": list(game.numbers), "target": game.target},
    )
