"""`tutelage replay`: one step of a run again, out of what lies in its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tutelage.config import BASE
from tutelage.data.journal import Journal
from tutelage.errors import ConfigError, RunFolderError
from tutelage.pipelines.folder import RunFolder, left_by, read_result
from tutelage.pipelines.plan import RunPlan, plan_recipe
from tutelage.report.read import SampleLog, rows_of
from tutelage.stages import Replay, RlPlan, StageRun, completed, replay_step
from tutelage.training import Metrics, Quiet


@dataclass(frozen=True, slots=True)
class Replayed:
    """A step as it was computed again, beside what is on record of it."""

    stage: str
    replay: Replay | None  # None: the step failed, and its samples were cut away since
    recorded: Mapping[str, float]  # its line of metrics.jsonl; empty where it was not applied
    failure: Mapping[str, Any] | None  # what was found when it was not finite


def replay_run(out: Path, step: int, stage: str | None, note: Callable[[str], None]) -> Replayed:
    """Computes a step again. Writes nothing, and needs no lock.

    Args:
        stage: an `rl` stage; None: the only one of the run.

    Raises:
        ConfigError: there is no such stage.
        RunFolderError: the step is not on record.
    """
    folder = RunFolder(out)
    plan = plan_recipe(folder.declared())
    wanted = _wanted(plan, stage)
    name = wanted.stage.name
    place = folder.stage_folder(name)
    if place is None:
        raise RunFolderError(f"{out}: stage '{name}' has not begun")
    samples = SampleLog(out / "samples.jsonl")
    recorded = _recorded(out, name, step)
    failure = None if recorded else _failure(place, step)
    if not samples.places.get((name, step)):
        if failure is not None:
            return Replayed(name, None, {}, failure)
        raise RunFolderError(f"{out}: no sample of step {step} of stage '{name}' is on record; {_steps(samples, name)}")
    with TemporaryDirectory() as nowhere:
        run = _run_of(plan, wanted, folder, place, Path(nowhere), note)
        wanted_now = completed(wanted, run.made, run.model, place, note)
        assert isinstance(wanted_now, RlPlan)
        replay = replay_step(wanted_now, run, step, lambda number: samples.at((name, number)), _slower(out, name))
        run.metrics.close()
    return Replayed(name, replay, recorded, failure)


def _wanted(plan: RunPlan, stage: str | None) -> RlPlan:
    known = {one.stage.name: one for one in plan.stages if isinstance(one, RlPlan)}
    if stage is None and len(known) == 1:
        return next(iter(known.values()))
    if stage not in known:
        names = ", ".join(known) or "none"
        raise ConfigError(f"--stage: steps of `rl` stages can be computed again; of this run: {names}")
    return known[stage]


def _run_of(
    plan: RunPlan, wanted: RlPlan, folder: RunFolder, place: Path, nowhere: Path, note: Callable[[str], None]
) -> StageRun:
    """The stage as it began, with logs that lead nowhere."""
    made = plan.fetch_models(note)
    model = made.get(BASE)
    for other in plan.recipe.before(wanted.stage.name):
        own = folder.stage_folder(other.name)
        result = read_result(own) if own is not None else None
        left = left_by(own, result) if own is not None and result is not None else None
        if left is not None:
            made[other.name] = left
        if left is not None and result is not None and "saved" in result:
            model = left
    begins = made.get(wanted.stage.start or "", model)
    return StageRun(
        recipe=plan.recipe,
        stage=wanted.stage,
        folder=place,
        model=begins or Path(),
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        metrics=Metrics(nowhere),
        samples=Journal(Path(os.devnull)),
        events=Journal(Path(os.devnull)),
        progress=Quiet(),
        start={},
        made=made,
    )


def _recorded(out: Path, stage: str, step: int) -> dict[str, float]:
    rows = [row for row in rows_of(out / "metrics.jsonl") if row.get("stage") == stage and row.get("step") == step]
    return {name: value for row in rows for name, value in row.items() if isinstance(value, (int, float))}


def _slower(out: Path, stage: str) -> list[tuple[int, float]]:
    """Of each roll back, the step gone back to and the share of the learning rate since."""
    events = [row for row in rows_of(out / "events.jsonl") if row.get("stage") == stage and "to" in row]
    return [(row["to"], row["lr_share"]) for row in events]


def _failure(place: Path, step: int) -> dict[str, Any] | None:
    path = place / f"failed-step-{step:06d}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _steps(samples: SampleLog, stage: str) -> str:
    known = [step for name, step in samples.places if name == stage and step]
    return f"there are those of {min(known)} to {max(known)}" if known else "there is none of the stage"
