"""What every stage is given: the run it is part of."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from safetensors import SafetensorError

from tutelage.config import LEAVES, Checkpoints, Guards, Lora, Recipe, Stage, nearest
from tutelage.data.journal import Journal
from tutelage.environments import Environment, environment_of
from tutelage.errors import ConfigError, RunFolderError, UnreachableError
from tutelage.kernels import find_compiler
from tutelage.models import Policy, RewardModel, load_policy, load_reward_model, pick_compute
from tutelage.seeds import derive_seed
from tutelage.training import Logs, Metrics, Progress, State, Task, Watch, event_in_words, fit, load_checkpoint
from tutelage.types import Prompt, Split

Result = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StageRun:
    """One stage of one run, under way."""

    recipe: Recipe
    stage: Stage
    folder: Path  # the stage's own
    model: Path  # the transformers folder that the stage begins with
    device: torch.device
    metrics: Metrics
    samples: Journal
    events: Journal
    progress: Progress
    start: Mapping[str, int]  # how far the logs were written when the stage began for the first time
    made: Mapping[str, Path] = field(default_factory=dict[str, Path])  # by stages before it, by name; and "base"
    inputs: Mapping[str, str] = field(default_factory=dict[str, str])  # digests of those of them that it reads

    @property
    def seed(self) -> int:
        return derive_seed(self.recipe.seed, self.stage.name)

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def load_policy(self, compute: Literal["fp32"] | None = None, model: str | None = None) -> Policy:
        """The policy as the stage finds it.

        Args:
            compute: what its method needs; None: as the recipe says.
            model: the stage whose policy it is, "base", or a folder; None: the one that this stage begins with.
        """
        if self.recipe.compile_layers and find_compiler() is None:
            raise ConfigError(
                "compile_layers: torch compiles with a C++ compiler, and neither g++ nor one that CXX names was found; "
                "install one, or set compile_layers = false"
            )
        folder = self.model if model is None else self.made.get(model, Path(model))
        policy = load_policy(folder, pick_compute(compute or self.recipe.compute, self.device), self.device)
        if self.recipe.compile_layers:
            policy.compile_layers()
        if self.recipe.activation_checkpointing:
            policy.checkpoint_activations()
        if self._lora is not None and model is None:
            policy.adapt(self._lora, derive_seed(self.seed, "lora"))
        return policy

    @property
    def _lora(self) -> Lora | None:
        return getattr(self.stage, "lora", None)

    def load_reward_model(self, name: str | None = None) -> RewardModel:
        """A reward model that a stage made or that lies in a folder; None: one to be made of the stage's own model."""
        folder = self.model if name is None else self.made.get(name, Path(name))
        model = load_reward_model(folder, pick_compute(self.recipe.compute, self.device), self.device)
        if self._lora is not None and name is None:
            model.adapt(self._lora, derive_seed(self.seed, "lora"))
        return model

    def begin(self, state: State) -> State:
        """The state to train from: the newest intact checkpoint's, or the beginning. Cuts the logs back to it."""
        offsets, refused = load_checkpoint(state, self.checkpoints)
        for line in refused:
            self.progress.note(line)
        self.cut_back(offsets or self.start)
        if offsets:
            self.progress.note(f"goes on after step {state.step}")
        return state

    def fit(self, task: Task, state: State, checkpoints: Checkpoints, guards: Guards | None = None) -> State:
        """Trains what the stage trains; under its guards, where it has some."""
        logs = Logs(lambda: self.metrics.of(self.stage.name), self._cut_back_to, self.tell)
        watch = None if guards is None else Watch(guards, logs, state)
        return fit(task, state, self.checkpoints, checkpoints, self.record, self.offsets, watch)

    def tell(self, event: Mapping[str, Any]) -> None:
        """Writes down what a guard found, and shows it."""
        self.events.append({"stage": self.stage.name, **event})
        self.progress.note(f"{self.stage.name}: {event_in_words(event)}")

    def record(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes and shows one step's metrics."""
        self.metrics.write(self.stage.name, step, numbers)
        self.progress.step(step, numbers)

    def offsets(self) -> dict[str, int]:
        """How far the run's logs are written, for a checkpoint."""
        return {"metrics": self.metrics.offset, "samples": self.samples.offset, "events": self.events.offset}

    def cut_back(self, offsets: Mapping[str, int]) -> None:
        """Cuts the logs back to where a checkpoint was."""
        self._cut_back_to(offsets)
        self.events.truncate_to(offsets.get("events", 0))  # of a run from before there were any

    def _cut_back_to(self, offsets: Mapping[str, int]) -> None:
        self.metrics.truncate_to(offsets["metrics"])
        self.samples.truncate_to(offsets["samples"])

    def save_model(self, save: Callable[[Path], None]) -> str:
        """Has the stage's model written, whole or not at all. Returns its path within the run's folder."""
        final, beside = self.folder / "model", self.folder / ".model.partial"
        for left in (final, beside):  # by a run that was killed here
            shutil.rmtree(left, ignore_errors=True)
        try:
            save(beside)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(beside, ignore_errors=True)
            raise RunFolderError(
                f"{final}: the model could not be written: {error}; the last checkpoint is intact. Make room, then "
                "`tutelage resume`"
            ) from error
        beside.rename(final)
        return str(final.relative_to(self.folder.parent.parent))


def environment_before(recipe: Recipe, name: str, stage: str) -> Environment:
    """The environment of that name, as a stage uses it. Raises ConfigError that names the key and the remedy."""
    environment = environment_of(recipe, name)
    known = [other.name for other in recipe.before(stage) if LEAVES[other.type] == "prompts"]
    for made in environment.reads:
        if made not in known:
            raise ConfigError(
                f"environments.{name}.stage: no stage before '{stage}' leaves prompts as '{made}': "
                f"{nearest(made, known)}; or give the file that one left as path"
            )
    return environment


def prompts_of(environment: Environment, split: Split, must_reach: bool) -> Sequence[Prompt]:
    """The prompts of a split. Empty where a stage is still to make them, or their data set cannot be reached now."""
    return () if environment.reads else unless_unreachable(lambda: environment.prompts(split), must_reach)


def unless_unreachable(read: Callable[[], Sequence[T]], must_reach: bool) -> Sequence[T]:
    """What is read. Empty where its data set cannot be reached now, unless it must be."""
    try:
        return read()
    except UnreachableError:
        if must_reach:
            raise
        return ()


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file whole or not at all."""
    beside = path.with_name(f".{path.name}.partial")
    beside.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(beside, path)
