"""Several seeds of one recipe: one after the other, resumable, and what they come to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.pipelines.parts import EVALUATE, recipe_text, tiny_model_folder
from tutelage.config import read_recipe
from tutelage.errors import ConfigError, RunFolderError
from tutelage.evaluation import interquartile_mean, stratified_bootstrap
from tutelage.pipelines import aggregate, resume_run, run_seeds, runs_in
from tutelage.training import Quiet


def made(folder: Path, *scores: tuple[float, float]) -> Path:
    """Runs with two evaluations each, of one question."""
    for seed, pair in enumerate(scores):
        for number, (name, score) in enumerate(zip(("before", "after"), pair, strict=True), start=1):
            place = folder / f"seed-{seed}" / "stages" / f"{number:02d}-{name}"
            place.mkdir(parents=True)
            (place / "result.json").write_text(json.dumps({"type": "evaluate", "scores": {"q": [score]}}))
        stages = [{"name": name, "type": "evaluate", "environment": "sums"} for name in ("before", "after")]
        declared = {"recipe": {"name": "made", "model": "none", "stage": stages}}
        (folder / f"seed-{seed}/recipe.json").write_text(json.dumps(declared))
    return folder


def test_runs_are_aggregated_by_stage_and_together(tmp_path: Path) -> None:
    folder = made(tmp_path, (0.1, 0.9), (0.2, 0.7), (0.3, 0.8))
    before, after, both = aggregate(runs_in([folder]), ["before", "after"])
    assert (before.name, before.mean, before.scores) == ("before", pytest.approx(0.2), ((0.1,), (0.2,), (0.3,)))
    assert before.low is not None
    assert before.low < 0.1  # three runs are few
    assert after.mean == pytest.approx(0.8)
    scores = np.array([[0.1, 0.9], [0.2, 0.7], [0.3, 0.8]])
    assert both.mean == pytest.approx(interquartile_mean(scores))
    assert (both.low, both.high) == pytest.approx(stratified_bootstrap(scores))
    with pytest.raises(ConfigError, match="--together later: not every run has scores of it"):
        aggregate(runs_in([folder]), ["later"])


def test_one_run_has_no_interval_and_an_empty_folder_no_run(tmp_path: Path) -> None:
    (only, _) = aggregate(runs_in([made(tmp_path / "one", (0.5, 0.6))]))
    assert (only.low, only.high) == (None, None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFolderError, match="no run lies here"):
        runs_in([tmp_path / "empty"])


def test_seeds_run_one_after_the_other_and_stand_when_they_are_finished(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_text(tiny_model_folder(tmp_path / "tiny"), EVALUATE))
    recipe = read_recipe(path)
    folders = run_seeds(recipe, tmp_path / "out", 2, Quiet())
    assert [folder.name for folder in folders] == ["seed-3", "seed-4"]
    assert [json.loads((folder / "recipe.json").read_text())["recipe"]["seed"] for folder in folders] == [3, 4]
    results = [folder / "stages/01-judge/result.json" for folder in folders]
    assert json.loads(results[0].read_text())["scores"] != json.loads(results[1].read_text())["scores"]
    written = [result.stat().st_mtime_ns for result in results]
    assert run_seeds(recipe, tmp_path / "out", 3, Quiet())[2].name == "seed-5"  # one more; the others stand
    assert [result.stat().st_mtime_ns for result in results] == written
    with pytest.raises(RunFolderError, match="holds a single run"):
        run_seeds(recipe, folders[0], 2, Quiet())
    with pytest.raises(RunFolderError, match=r"several seeds.*seed-3, or give `tutelage run RECIPE --seeds N --out"):
        resume_run(tmp_path / "out", Quiet())
