"""Several runs on one page: seeds of one recipe are a band, recipes a colour each, last scores side by side."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from tests.report.factory import RECIPE, write_run
from tests.report.test_build import Page
from tutelage.errors import RunFolderError
from tutelage.report import build_overlay
from tutelage.report.overlay import band_of, finals_of, overlay_of, recipes_of
from tutelage.report.read import StageRecord, read_run


def recipe(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(RECIPE), **changes}


def test_runs_that_differ_in_their_seed_are_one_recipe(tmp_path: Path) -> None:
    faster = recipe()
    faster["stage"][1]["optimizer"] = {"lr": 1e-3}
    runs = [
        read_run(write_run(tmp_path / name, questions=4, steps=2, recipe=one))
        for name, one in (("a", recipe(seed=1)), ("b", recipe(seed=2)), ("c", faster))
    ]
    seeds, other = recipes_of(runs)
    assert [run.folder.name for run in seeds.runs] == ["a", "b"]
    assert (seeds.name, other.name) == ("quickstart (a, b)", "quickstart (c)")


def stage(name: str, values: dict[int, float | None]) -> StageRecord:
    return StageRecord(1, name, "rl", {}, None, [{"step": step, "reward": value} for step, value in values.items()])


def test_a_band_is_the_mean_and_range_of_the_steps_that_all_seeds_have() -> None:
    band = band_of("r", "reward", [stage("s", {1: 0.0, 2: 1.0, 3: 5.0}), stage("s", {1: 1.0, 2: 4.0, 3: None})])
    assert band is not None
    assert (band.steps, band.middle, band.low, band.high) == ([1, 2], [0.5, 2.5], [0.0, 1.0], [1.0, 4.0])
    assert band_of("r", "kl", [stage("s", {1: 0.0})]) is None


def test_last_scores_stand_side_by_side_with_their_difference(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / name, questions=60, steps=1, recipe=recipe(seed=seed)))
            for seed, name in enumerate(("a", "b"))]  # fmt: skip
    (final,) = finals_of(runs, recipes_of(runs))
    assert [row.run for row in final.rows] == ["a", "b"]
    assert [row.row.stage.name for row in final.rows] == ["after", "after"]
    assert final.rows[0].change == ""
    assert final.rows[1].change == "0 points (−5 to 5)"  # the factory writes the same run; Bonett and Price
    ((name, words),) = final.seeds
    assert name == "quickstart"
    assert re.fullmatch(r"(\d+ %) on average over 2 seeds, from \1 to \1", words)


def test_the_page_is_whole_safe_and_asks_for_nothing(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    folders = [write_run(tmp_path / name, questions=6, steps=14, recipe=recipe(name=evil, seed=seed))
               for seed, name in enumerate(("a", "b"))]  # fmt: skip
    html = build_overlay(folders, tmp_path / "runs.html").read_text()
    page = Page(html)
    assert page.count("img") == 0
    (policy,) = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert str(policy).startswith("default-src 'none'")
    assert not re.search(r"url\((?!#)|@import|fetch\(|https?://(?!www\.w3\.org)", html)
    assert "more metrics" in page.text
    assert page.count("svg") >= 15
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert all(a["aria-labelledby"] in ids for tag, a in page.elements if tag == "section")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no run lies here"):
        build_overlay([tmp_path], tmp_path / "runs.html")
    assert "unfinished" in overlay_of([read_run(write_run(tmp_path, questions=2, steps=1, until="learn"))])
