"""What a run is: a `Recipe`, a list of stages read from one TOML file.

Tables whose kinds are open (environments, rewards, algorithms, sources) stay raw here: the room that owns them turns
them into parts with `config.build`, so that this room imports nothing heavy and a new kind is one file and one line.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field

from tutelage.config.artefacts import LEAVES, check_artefacts, newest
from tutelage.config.figures import check_gates
from tutelage.config.learning_stages import ControlStage, PretrainStage
from tutelage.config.part import Part, Table, nearest, validate
from tutelage.config.repeat import unrolled
from tutelage.config.reporting_stages import CompareStage, PlayStage
from tutelage.config.stage_base import ModelStage, Name
from tutelage.config.stages import Stage
from tutelage.errors import ConfigError

BASE = "base"  # instead of a stage's name: the recipe's model


class Recipe(Part):
    """One life of a model, as declared."""

    name: Name
    model: str | None = None  # None: a `pretrain` stage makes one, or control and play stages need none
    models: dict[str, str] = Field(default_factory=dict[str, str])  # others, by names that stages may begin with
    seed: int = 0
    compute: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where the machine has it in hardware
    compile_layers: bool = False  # half a minute at first; for models and machines that our own kernels do not serve
    activation_checkpointing: bool = False  # True: less memory, a third more time to learn
    engine: Literal["auto", "native", "transformers"] = "auto"  # auto: native for the families it knows
    environments: dict[str, Table] = Field(default_factory=dict[str, Table])
    track: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()
    stage: tuple[Stage, ...] = ()

    def before(self, name: str) -> tuple[Stage, ...]:
        """The stages that come before the one of that name."""
        return self.stage[: [stage.name for stage in self.stage].index(name)]

    def policies_before(self, name: str) -> list[str]:
        """The names of the policies that the stage of that name finds. None: a `pretrain` stage makes one."""
        base = [] if self.model is None else [BASE]
        return [*base, *self.models, *(stage.name for stage in self.before(name) if LEAVES[stage.type] == "policy")]

    def begins(self, stage: Stage) -> str | None:
        """The name of the model that a stage begins with; None: the recipe's own, or nothing."""
        return getattr(stage, "start", None) or newest(stage, self.before(stage.name))

    def root(self, stage: Stage) -> str | None:
        """Where a stage's model comes from in the end: "base", one of `models`, or a stage that made one."""
        if not isinstance(stage, ModelStage):
            return None if self.model is None else BASE
        before = {other.name: other for other in self.before(stage.name)}
        begins = self.begins(stage)
        if begins is None:
            return stage.name if self.model is None else BASE
        return self.root(before[begins]) if begins in before else begins


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe and applies `--set` overrides. Raises ConfigError that names the file and the key."""
    table = read_toml(path, "recipe", "tutelage recipes")
    for override in overrides:
        apply_to_stages(table, override, Recipe.model_fields, "a top-level key")
    return checked_recipe(table)


def read_toml(path: Path, what: str, listed: str) -> Table:
    """A TOML file as a table. Raises ConfigError that names it.

    Args:
        what: it should be.
        listed: the command that lists those that ship.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such {what}; `{listed}` lists the ones that ship") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def checked_recipe(table: Table) -> Recipe:
    """The recipe that a table declares, its loops written out. Raises ConfigError that names the key."""
    if isinstance(table.get("stage"), list):
        table["stage"] = unrolled(table["stage"])
    recipe = validate(Recipe, table, "")
    _check_names(recipe)
    check_artefacts(recipe.stage, recipe.environments)
    check_gates(recipe.stage, recipe.environments)
    return recipe


def _check_names(recipe: Recipe) -> None:
    if not recipe.stage:
        raise ConfigError("stage: a recipe needs at least one [[stage]]")
    names = [stage.name for stage in recipe.stage]
    for name in recipe.models:
        if name in (BASE, *names):
            raise ConfigError(f"models.{name}: a stage, or the recipe's own model, has that name; take another")
    for i, name in enumerate(names):
        if name == BASE:
            raise ConfigError(f"stage[{i}].name: '{BASE}' is what `start` calls the recipe's model; take another")
        if name in names[:i]:
            raise ConfigError(f"stage[{i}].name: '{name}' is already the name of another stage")
    for i, stage in enumerate(recipe.stage):
        if not (recipe.policies_before(stage.name) or isinstance(stage, ControlStage | PlayStage | PretrainStage)):
            raise ConfigError(
                f"model: stage '{stage.name}' ({stage.type}) needs one; name a model or a folder, or begin with a "
                "pretrain stage"
            )
        environment = getattr(stage, "environment", None)
        if environment is not None and environment not in recipe.environments:
            hint = nearest(environment, list(recipe.environments))
            raise ConfigError(f"stage[{i}].environment: no [environments.{environment}]: {hint}")
        if isinstance(stage, ModelStage) and stage.start is not None:
            _check_start(recipe, i, stage.start)
        if isinstance(stage, CompareStage):
            _check_contestants(recipe, i, stage)
        if isinstance(stage, PretrainStage) and recipe.policies_before(stage.name):
            _refuse_remaking(i, stage)


def _check_start(recipe: Recipe, place: int, start: str) -> None:
    """A stage begins with the model of one before it."""
    stage = recipe.stage[place]
    known = recipe.policies_before(stage.name)
    if stage.type == "reward-model":
        known += [other.name for other in recipe.stage[:place] if other.type == "reward-model"]
    if start not in known:
        raise ConfigError(f"stage[{place}].start: no stage before this one leaves '{start}': {nearest(start, known)}")


def _refuse_remaking(place: int, stage: PretrainStage) -> None:
    """A stage that goes on with a model takes that as it is."""
    for key, given in (("tokenizer", stage.tokenizer), ("architecture", stage.architecture)):
        if given is not None:
            raise ConfigError(
                f"stage[{place}].{key}: stage '{stage.name}' goes on with a model that has one; leave it out, or, to "
                "begin from nothing, make this the first stage and leave out the recipe's model"
            )


def _check_contestants(recipe: Recipe, place: int, stage: CompareStage) -> None:
    known = recipe.policies_before(stage.name)
    for name in (*(contestant.model for contestant in stage.contestants), *filter(None, [stage.kl_to])):
        if name not in known:
            raise ConfigError(f"stage[{place}]: no stage before this one leaves '{name}': {nearest(name, known)}")
    labels = [contestant.label for contestant in stage.contestants]
    for i, label in enumerate(labels):
        if label in labels[:i]:
            raise ConfigError(f"stage[{place}].contestants[{i}].name: '{label}' is taken; give each a name of its own")


def _tables(value: object) -> list[Table]:
    """The tables of a list; of anything else, which is refused later on, none."""
    if not isinstance(value, list):
        return []
    return [cast(Table, one) for one in cast(list[object], value) if isinstance(one, dict)]


def apply_to_stages(table: Table, override: str, keys: Collection[str], what: str) -> None:
    """Sets one `path.to.key=value`; a path begins with a stage's name or one of the table's own keys.

    Args:
        keys: those that the table may have.
        what: how one of these is called, for messages.
    """
    first, _, rest = override.partition("=")[0].strip().partition(".")
    declared = [stage for outer in _tables(table.get("stage")) for stage in (outer, *_tables(outer.get("stage")))]
    stages = {name: stage for stage in declared if isinstance(name := stage.get("name"), str)}
    if "=" in override and first in stages and rest:
        apply_override(stages[first], override.strip()[len(first) + 1 :])
    elif first in keys or "=" not in override:
        apply_override(table, override)
    else:
        hint = nearest(first, [*(f"{name}.key" for name in stages), *keys])
        raise ConfigError(f"--set {override}: '{first}' is neither stage.key nor {what}: {hint}")


def apply_override(table: Table, override: str) -> None:
    """Sets one `path.to.key=value` in a table. Values are TOML; what is not is taken as text."""
    path, sign, text = override.partition("=")
    if not sign:
        raise ConfigError(f"--set {override}: a value is missing; write it as key=value")
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *keys, last = path.strip().split(".")
    for key in keys:
        inner: Any = table.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override}: '{key}' is not a table")
        table = cast(Table, inner)
    table[last] = value
