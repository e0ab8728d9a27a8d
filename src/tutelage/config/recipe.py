"""What a run is: a `Recipe`, a list of stages read from one TOML file.

Tables whose kinds are open (environments, rewards, algorithms, sources) stay raw here: the room that owns them turns
them into parts with `config.build`, so that this room imports nothing heavy and a new kind is one file and one line.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field, NonNegativeInt, PositiveInt

from tutelage.config.part import Part, Table, nearest, validate
from tutelage.config.settings import Checkpoints, Correction, Optimizer, Reference, Sampling
from tutelage.errors import ConfigError
from tutelage.types import Split

Seconds = Annotated[float, Field(gt=0.0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]


class EvaluateStage(Part):
    """Asks the current model the environment's questions and reports scores with intervals."""

    type: Literal["evaluate"]
    name: Name
    environment: str
    split: Split = "test"
    questions: PositiveInt | None = None  # None: all
    samples: PositiveInt = 1  # per question
    sampling: Sampling = Sampling(temperature=0.0)
    rewards: tuple[Table, ...] = ({"type": "task"},)
    reward_timeout: Seconds = 10.0  # for one sample


class SftStage(Part):
    """Supervised fine-tuning: imitate what a source of conversations shows."""

    type: Literal["sft"]
    name: Name
    source: Table
    loss_on: Literal["assistant", "last-assistant", "all"] = "assistant"
    epochs: PositiveInt = 1
    steps: PositiveInt | None = None  # None: as many as the epochs give
    sequences_per_step: PositiveInt = 16
    tokens_per_microbatch: PositiveInt = 4096
    optimizer: Optimizer = Optimizer(lr=1e-5)
    checkpoints: Checkpoints = Checkpoints()


class RlStage(Part):
    """Reinforcement learning: sample groups, reward them, credit their tokens, update."""

    type: Literal["rl"]
    name: Name
    environment: str
    split: Split = "train"
    algorithm: Table = Field(default={"type": "grpo"})
    rewards: tuple[Table, ...] = ({"type": "task"},)
    steps: PositiveInt = 100
    prompts_per_step: PositiveInt = 8
    completions_per_prompt: PositiveInt = 8
    epochs: PositiveInt = 1  # passes over the samples of a step
    updates_per_epoch: PositiveInt = 1  # 1: on-policy
    refills: NonNegativeInt = 10  # further rounds of sampling in a step, where the algorithm finds groups uninformative
    replay: NonNegativeInt = 0  # earlier steps whose groups are learned from again beside the new ones
    ratio_to: Literal["learner", "sampler"] = "learner"  # whose log-probabilities are the ratio's denominator
    correction: Correction = Correction()
    reference: Reference = Reference()
    tokens_per_microbatch: PositiveInt = 4096
    sampling: Sampling = Sampling()
    optimizer: Optimizer = Optimizer()
    checkpoints: Checkpoints = Checkpoints()
    reward_timeout: Seconds = 10.0  # for one sample
    max_failed_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25  # of a step's samples; above it the run stops


class ControlStage(Part):
    """Reinforcement learning of a small network in a gymnasium environment, by the algorithms of language models.

    A step collects either `length` steps of `copies` environments, or, with `episodes`, that many whole episodes from
    each of `copies` beginnings, which are then an algorithm's group.
    """

    type: Literal["control"]
    name: Name
    environment: str
    algorithm: Table = Field(default={"type": "ppo", "discount": 0.99, "critic": {"kind": "model"}})
    steps: PositiveInt = 100
    copies: PositiveInt = 8
    length: PositiveInt = 128
    episodes: PositiveInt | None = None
    epochs: PositiveInt = 10  # passes over a step's transitions; under a trust region, the critic's
    transitions_per_update: PositiveInt | Literal["all"] = 64  # drawn anew in each epoch
    hidden: tuple[PositiveInt, ...] = (64, 64)  # of policy and critic, each; tanh
    normalise_observations: bool = True
    normalise_rewards: bool = False
    optimizer: Optimizer = Optimizer(lr=3e-4, max_grad_norm=0.5)
    checkpoints: Checkpoints = Checkpoints()


class PlayStage(Part):
    """Plays episodes in a gymnasium environment with the current control policy, or one written by hand."""

    type: Literal["play"]
    name: Name
    environment: str
    episodes: PositiveInt = 20
    policy: str | None = None  # "module:function", from observations to actions; None: that of the stage before
    greedy: bool = True  # the most likely action; else as the policy draws it


Stage = Annotated[EvaluateStage | SftStage | RlStage | ControlStage | PlayStage, Field(discriminator="type")]


class Recipe(Part):
    """One life of a model, as declared."""

    name: Name
    model: str | None = None  # not for recipes of control and play stages alone
    seed: int = 0
    compute: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where the machine has it in hardware
    compile_layers: bool = False  # half a minute at first; for models and machines that our own kernels do not serve
    activation_checkpointing: bool = False  # True: less memory, a third more time to learn
    engine: Literal["auto", "native", "transformers"] = "auto"  # auto: native for the families it knows
    environments: dict[str, Table] = Field(default_factory=dict[str, Table])
    track: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()
    stage: tuple[Stage, ...] = ()


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe and applies `--set` overrides. Raises ConfigError that names the file and the key."""
    try:
        table: Table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recipe; `tutelage recipes` lists the ones that ship") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    for override in overrides:
        _apply(table, override)
    recipe = validate(Recipe, table, "")
    _check_names(recipe)
    return recipe


def _check_names(recipe: Recipe) -> None:
    if not recipe.stage:
        raise ConfigError("stage: a recipe needs at least one [[stage]]")
    names = [stage.name for stage in recipe.stage]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ConfigError(f"stage[{i}].name: '{name}' is already the name of another stage")
    for i, stage in enumerate(recipe.stage):
        if recipe.model is None and not isinstance(stage, ControlStage | PlayStage):
            raise ConfigError(f"model: stage '{stage.name}' ({stage.type}) needs one; name a model or a folder")
        if not isinstance(stage, SftStage) and stage.environment not in recipe.environments:
            hint = nearest(stage.environment, list(recipe.environments))
            raise ConfigError(f"stage[{i}].environment: no [environments.{stage.environment}]: {hint}")


def _apply(table: Table, override: str) -> None:
    """Sets one `path.to.key=value`; a path begins with a stage's name or a top-level key."""
    first, _, rest = override.partition("=")[0].strip().partition(".")
    stages = {stage.get("name"): stage for stage in cast(list[Table], table.get("stage", []))}
    if "=" in override and first in stages and rest:
        apply_override(stages[first], override.strip()[len(first) + 1 :])
    elif first in Recipe.model_fields or "=" not in override:
        apply_override(table, override)
    else:
        hint = nearest(first, [f"{name}.key" for name in stages] + list(Recipe.model_fields))
        raise ConfigError(f"--set {override}: '{first}' is neither stage.key nor a top-level key: {hint}")


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
