"""Self-play: one policy plays every part, and what it does in one decides what it is asked next."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from tutelage.environments.base import Environment
from tutelage.types import Group, Prompt


@dataclass(frozen=True, slots=True)
class Turn:
    """A prompt of one role, and how many answers to it are wanted. Games that look the same to a role share one."""

    prompt: Prompt
    role: str
    answers: int = 1


Play = Generator[Sequence[Turn], Sequence[Group] | None, None]
"""A step's self-play: it yields the turns of a ply, is sent a group of answers for each, and rewards all in the end."""


class SelfPlay(Environment):
    """An environment that an `rl` stage plays instead of asking. Asked, as by other stages, it has questions too."""

    @abstractmethod
    def play(self, episodes: Sequence[int], attempts: int, seed: int, found: list[str]) -> Play:
        """Plays so many episodes in lockstep. When it ends, every sample has its reward and its episode.

        Args:
            episodes: their numbers, which differ from those of all other steps.
            attempts: answers to each prompt, where the environment wants several.
            seed: of all chance.
            found: what earlier steps found, to be added to: it is kept in checkpoints.
        """

    @abstractmethod
    def examples(self) -> Sequence[Prompt]:
        """Prompts such as play brings, one of the longest among them: they must fit."""

    @abstractmethod
    def check_attempts(self, attempts: int, where: str) -> None:
        """Raises ConfigError where so many answers to a prompt make no sense here."""
