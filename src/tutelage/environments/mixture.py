"""The environment `mixture`: several environments of the recipe as one, each with its share and its own scorer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, PrivateAttr

from tutelage.config import Part, Table, nearest
from tutelage.data.mixture import interleaved, mix
from tutelage.environments.base import Environment
from tutelage.errors import ConfigError
from tutelage.rewards import MixedReward, Reward
from tutelage.types import Prompt, Split


class MixturePart(Part):
    """One environment of a mixture, by its name in the recipe, and its share."""

    environment: str
    weight: PositiveFloat = 1.0
    max_new_tokens: PositiveInt | None = None  # of an answer to it, where that is less than the stage's sampling


class Mixture(Environment):
    """Prompts of other environments, each scored by the one that it comes from: RL "for all scenarios" (2501.12948).

    In training the parts have their shares, and one whose turn comes more often than it has prompts asks them again; in
    tests every prompt of every part is asked once. Either is in an order that the seed decides, of which any stretch
    holds every part's share.
    """

    type: str = "mixture"
    parts: Annotated[tuple[MixturePart, ...], Field(min_length=1)]
    train_questions: PositiveInt | None = None  # None: as many as it takes for every one to be asked
    seed: int = 0
    _environments: dict[str, Environment] = PrivateAttr(default_factory=dict[str, Environment])

    @property
    def part_names(self) -> tuple[str, ...]:
        return tuple(part.environment for part in self.parts)

    def resolved(self, others: Mapping[str, Table], build: Callable[[str], Environment], where: str) -> Mixture:
        """The same with the environments that it names.

        Args:
            others: those of the recipe.
            build: makes the one of a name.

        Raises:
            ConfigError: there is none of that name, it is a mixture itself, or it is named twice.
        """
        for number, name in enumerate(self.part_names):
            place = f"{where}.parts[{number}].environment"
            if name not in others:
                raise ConfigError(f"{place}: no [environments.{name}]: {nearest(name, list(others))}")
            if others[name].get("type") == self.type:
                raise ConfigError(f"{place}: '{name}' is a mixture itself; name the environments that you want of it")
            if name in self.part_names[:number]:
                raise ConfigError(f"{place}: '{name}' is a part already; add its weights up")
        ready = self.model_copy()
        ready._environments = {name: build(name) for name in self.part_names}
        return ready

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(stage for each in self._environments.values() for stage in each.reads))

    def completed(self, made: Mapping[str, Path]) -> Mixture:
        ready = self.model_copy()
        ready._environments = {name: each.completed(made) for name, each in self._environments.items()}
        return ready

    def prompts(self, split: Split) -> Sequence[Prompt]:
        parts = [
            [
                replace(prompt, part=part.environment, most=part.max_new_tokens)
                for prompt in self._environments[part.environment].prompts(split)
            ]
            for part in self.parts
        ]
        sizes = [len(prompts) for prompts in parts]
        weights = sizes if split == "test" else [part.weight for part in self.parts]
        whole = max(math.ceil(size * sum(weights) / weight) for size, weight in zip(sizes, weights, strict=True))
        asked = None if split == "test" else self.train_questions
        mixed = mix(parts, weights, asked or whole, self.seed)
        if missing := {part.environment for part in self.parts} - {prompt.part for prompt in mixed}:
            raise ConfigError(
                f"parts: of {len(mixed)} train_questions {', '.join(sorted(missing))} gets none by its weight; "
                "raise one of both"
            )
        return [mixed[place] for place in interleaved([prompt.part for prompt in mixed])]

    def scorer(self) -> Reward:
        return MixedReward(scorers={name: each.scorer() for name, each in self._environments.items()})

    def demonstration(self, prompt: Prompt) -> str:
        return self._environments[prompt.part or ""].demonstration(prompt)
