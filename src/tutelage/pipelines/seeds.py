"""One recipe under several seeds: each run in a folder of its own, one after the other; and what they come to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tutelage.config import Recipe
from tutelage.errors import ConfigError, FailedSamplesError, RunFolderError
from tutelage.evaluation import interquartile_mean, stratified_bootstrap, summarise
from tutelage.pipelines.folder import RunFolder, read_result, seed_folders
from tutelage.pipelines.run import run_recipe, stages_forced
from tutelage.training import Progress


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One evaluation, or several together, over runs: R runs, T tasks."""

    name: str
    scores: tuple[tuple[float, ...], ...]  # of each run its scores
    mean: float  # the interquartile mean
    low: float | None  # 95 % interval over runs; None for a single one
    high: float | None


def run_seeds(recipe: Recipe, out: Path, seeds: int, progress: Progress, force: Collection[str] = ()) -> list[Path]:
    """Runs the recipe under its seed and the next ones. In a folder where it ran before, what is finished stands.

    Returns:
        the runs' folders, OUT/seed-S.
    """
    stages_forced(force, recipe)  # a mistake is told before anything is made
    if (out / "recipe.json").exists():
        raise RunFolderError(f"{out}: holds a single run; choose another --out for several seeds")
    folders = [out / f"seed-{seed}" for seed in range(recipe.seed, recipe.seed + seeds)]
    for number, folder in enumerate(folders):
        seed = recipe.seed + number
        progress.note(f"seed {seed}, run {number + 1} of {seeds}: {folder}")
        run_recipe(recipe.model_copy(update={"seed": seed}), folder, progress, force)
    return folders


def runs_in(folders: Sequence[Path]) -> list[Path]:
    """The runs that lie in folders, or in their seed folders. Raises RunFolderError where there is none."""
    runs: list[Path] = []
    for folder in folders:
        found = [folder] if (folder / "recipe.json").is_file() else seed_folders(folder)
        if not found:
            raise RunFolderError(f"{folder}: no run lies here (neither recipe.json nor seed-* folders)")
        runs += found
    return runs


def aggregate(runs: Sequence[Path], together: Sequence[str] = ()) -> list[Aggregate]:
    """Each evaluation over the runs, by its stage's name; with `together`, those stages as the tasks of one figure.

    Raises:
        ConfigError: a stage of that name has no scores in some run.
    """
    scores = [_scores_of(run) for run in runs]
    shared = [name for name in scores[0] if all(name in own for own in scores)]
    for name in together:
        if name not in shared:
            raise ConfigError(
                f"--together {name}: not every run has scores of it; those that all have: {', '.join(shared)}"
            )
    if not shared:
        raise ConfigError("the runs have no finished evaluation in common")
    found = [_aggregate(name, [[own[name]] for own in scores]) for name in shared]
    if together:
        found.append(_aggregate(" + ".join(together), [[own[name] for name in together] for own in scores]))
    return found


def _aggregate(name: str, scores: Sequence[Sequence[float]]) -> Aggregate:
    scores_RT = np.array(scores)
    low, high = stratified_bootstrap(scores_RT) if len(scores) > 1 else (None, None)
    return Aggregate(name, tuple(tuple(own) for own in scores), interquartile_mean(scores_RT), low, high)


def _scores_of(run: Path) -> dict[str, float]:
    """The mean score of each finished stage that has scores, by its name, in the stages' order."""
    found: dict[str, float] = {}
    folder = RunFolder(run)
    for stage in folder.declared().stage:
        place = folder.stage_folder(stage.name)
        result = None if place is None else read_result(place)
        if result is not None and "scores" in result:
            with suppress(FailedSamplesError):
                found[stage.name] = summarise(result["scores"]).mean
    return found
