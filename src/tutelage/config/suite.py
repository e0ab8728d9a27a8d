"""A suite: what models are evaluated on. Environments and stages as a recipe has them, without a model.

    name = "sums"

    [environments.sums]
    type = "arithmetic"

    [[stage]]
    name = "greedy"
    type = "evaluate"
    environment = "sums"

Its stages only report. `of_models` makes a recipe of it in which each stage stands once for every model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, cast

from pydantic import Field

from tutelage.config.part import Part, Table, validate
from tutelage.config.recipe import BASE, Recipe, apply_to_stages, checked_recipe, read_toml
from tutelage.config.stage_base import Name
from tutelage.errors import ConfigError

_TYPES: Final = ("evaluate", "perplexity", "sycophancy", "compare")
_GIVEN: Final = ("start", "contestants", "kl_to")
"""Keys of a stage that the models on the command line decide."""


class Suite(Part):
    """Named evaluations, each a `[[stage]]` table of a type that only reports."""

    name: Name
    each: dict[str, tuple[str, ...]] = Field(default_factory=dict[str, tuple[str, ...]])
    environments: dict[str, Table] = Field(default_factory=dict[str, Table])
    stage: Annotated[tuple[Table, ...], Field(min_length=1)]

    def of_models(self, models: Sequence[str], seed: int = 0) -> Recipe:
        """The recipe that asks every model everything: stage by stage, and in each the models in their order.

        Where `each` says `task = ["a", "b"]`, an environment or a stage with `{task}` in it stands once for each.
        What compares models is left out where there is one.

        Raises:
            ConfigError: a stage does more than report, or says what the models decide.
        """
        labels = model_labels(models)
        environments: dict[str, Table] = {}
        for name, table in self.environments.items():
            for place, filled in _filled([name, table], self.each):
                environments[place] = filled
        stages: list[Table] = []
        for number, table in enumerate(self.stage):
            _check(table, f"stage[{number}]")
            for _, one in _filled(["", table], self.each):
                stages += _of_models({**one, "name": str(one.get("name", "")).replace("_", "-")}, labels)
        if not stages:
            raise ConfigError(f"suite {self.name}: it compares models, and there is one; name two or more")
        others = dict(zip(labels[1:], models[1:], strict=True))
        recipe = {"name": self.name, "model": models[0], "models": others, "seed": seed}
        return checked_recipe({**recipe, "environments": environments, "stage": stages})


def read_suite(path: Path, overrides: Sequence[str] = ()) -> Suite:
    """Reads a suite and applies `--set` overrides. Raises ConfigError that names the file and the key."""
    table = read_toml(path, "suite", "tutelage suites")
    for override in overrides:
        apply_to_stages(table, override, Suite.model_fields, "a key of the suite")
    return validate(Suite, table, "")


def model_labels(models: Sequence[str]) -> list[str]:
    """A short name for each model that may be part of a stage's, no two alike. Of RUN/model the run's."""
    labels: list[str] = []
    for model in models:
        path = Path(model)
        name = path.parent.name if path.name == "model" and path.parent.name else path.name
        label = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model"
        taken = label in labels or label == BASE
        labels.append(f"{label}-{len(labels) + 1}" if taken else label)
    return labels


def _check(table: Table, where: str) -> None:
    kind = table.get("type")
    if kind not in _TYPES:
        raise ConfigError(f"{where}.type: a suite's stages only report: {', '.join(_TYPES)} (given: {kind!r})")
    for key in _GIVEN:
        if key in table:
            raise ConfigError(f"{where}.{key}: the models are those of the command line; leave it out")


def _of_models(table: Table, labels: Sequence[str]) -> list[Table]:
    starts = [BASE, *labels[1:]]
    if table["type"] == "compare":
        contestants = [{"model": start, "name": label} for start, label in zip(starts, labels, strict=True)]
        return [{**table, "contestants": contestants}] if len(labels) > 1 else []
    return [
        {**table, "name": f"{table['name']}-of-{label}", "start": start}
        for start, label in zip(starts, labels, strict=True)
    ]


def _filled(value: list[Any], each: Mapping[str, Sequence[str]]) -> Iterator[list[Any]]:
    """The value once for every choice of what stands for the placeholders in it."""
    for key, choices in each.items():
        if f"{{{key}}}" in repr(value):
            rest = {name: others for name, others in each.items() if name != key}
            for choice in choices:
                yield from _filled(cast(list[Any], _with(value, f"{{{key}}}", choice)), rest)
            return
    yield value


def _with(value: object, placeholder: str, text: str) -> object:
    if isinstance(value, str):
        return value.replace(placeholder, text)
    if isinstance(value, Mapping):
        return {name: _with(inner, placeholder, text) for name, inner in cast(Mapping[str, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_with(inner, placeholder, text) for inner in cast(Sequence[object], value)]
    return value
