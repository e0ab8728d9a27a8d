"""`Environment`: what a policy is asked. Each kind is its recipe's table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from tutelage.config import Part
from tutelage.rewards import Reward
from tutelage.types import Prompt, Split


class Environment(Part, ABC):
    """A recipe's `[environments.NAME]` table. A user's own inherits it and is named by `type = "module:Class"`.

    The same table gives the same prompts, in the same order, on every machine; no question is in both splits.
    """

    type: str  # its name in a recipe

    def check(self, where: str) -> None:
        """Looks for what the table names, without loading it.

        Raises:
            ConfigError: something that the table names does not exist, or its numbers do not go together.
            MissingExtraError: an optional package is not installed.
        """

    @property
    def part_names(self) -> tuple[str, ...]:
        """The environments that it mixes: what `Prompt.part` may be. None for one by itself."""
        return ()

    @property
    def reads(self) -> tuple[str, ...]:
        """The stages of the same recipe that make its prompts. Until these have run it has none to give."""
        return ()

    def completed(self, made: Mapping[str, Path]) -> Environment:
        """The same once those stages have run. `made`: what stages have left, by name."""
        return self

    @abstractmethod
    def prompts(self, split: Split) -> Sequence[Prompt]:
        """The questions of a split."""

    @abstractmethod
    def scorer(self) -> Reward:
        """The task's own score: what `{type = "task"}` means."""

    def demonstration(self, prompt: Prompt) -> str:
        """The gold answer, as the assistant would write it. The scorer gives it 1."""
        if prompt.answer is None:
            raise ValueError(f"prompt {prompt.id!r} has no gold answer to demonstrate")
        return self.scorer().demonstrate(prompt.answer)
