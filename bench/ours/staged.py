"""One of our stages under the driver's hand: its own task in the one loop, stopped between steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from bench.ours.facts import facts_of
from bench.pace import Pace
from tutelage.config import Recipe, Stage
from tutelage.data.journal import Journal
from tutelage.stages.context import StageRun
from tutelage.training import Metrics, State, Task, fit
from tutelage.training.progress import Quiet

ENDLESS = 10**6  # steps, and steps between checkpoints: the driver ends the run
_KEPT = ("loss", "reward", "tokens", "groups", "moved", "refused", "entropy", "length")


class Ended(Exception):
    """The driver wants no more steps."""


class Stepping(Quiet):
    """Hears each step's metrics, tells the driver, and waits for its next word."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        told = {name: value for name, value in metrics.items() if name.endswith("_seconds") or name in _KEPT}
        if not self.pace.report(**told):
            raise Ended


def step_through(pace: Pace, recipe: Recipe, make: Callable[[StageRun], tuple[Task, State]]) -> None:
    """Runs the recipe's only stage, on the folder `recipe.model`, for as many steps as the driver asks for."""
    (stage,) = recipe.stage
    with TemporaryDirectory() as name, suppress(Ended):
        run = _run_of(recipe, stage, Path(name), pace)
        task, state = make(run)
        run.begin(state)
        pace.note(**facts_of(state.policy))
        if pace.ready():
            fit(task, state, run.checkpoints, stage.checkpoints, run.record, run.offsets)
    pace.finish()


def _run_of(recipe: Recipe, stage: Stage, folder: Path, pace: Pace) -> StageRun:
    return StageRun(
        recipe=recipe,
        stage=stage,
        folder=folder,
        model=Path(recipe.model),
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        metrics=Metrics(folder),
        events=Journal(folder / "events.jsonl"),
        samples=Journal(folder / "samples.jsonl"),
        progress=Stepping(pace),
        start={"metrics": 0, "samples": 0},
    )


def recipe_of(spec: Mapping[str, Any], stage: Mapping[str, Any], environments: Mapping[str, Any]) -> Recipe:
    """A recipe of one stage without end, on the specification's model and seed."""
    shared = {"name": "bench", "optimizer": {"lr": spec["lr"]}, "checkpoints": {"every": ENDLESS}, "steps": ENDLESS}
    stages: Sequence[Mapping[str, Any]] = [{**shared, **stage}]
    return Recipe.model_validate(
        {
            "name": "bench",
            "model": spec["model"],
            "seed": spec["seed"],
            "compute": spec["compute"],
            "activation_checkpointing": spec.get("activation_checkpointing", False),
            "environments": environments,
            "stage": stages,
        }
    )
