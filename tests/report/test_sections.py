"""Timeline, phases, frontier and the inspector's data: true of the folder, bounded, and safe."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from tests.report.factory import RECIPE, append, inspected, inspected_step, write_json, write_run
from tests.report.test_build import EVIL, Page, build
from tutelage.report import inspection as shown
from tutelage.report import phases as shown_phases
from tutelage.report.charts import Band, bands, lines, stacked
from tutelage.report.inspection import FATES_IN_WORDS, QUANTITIES, Quantity, inspection
from tutelage.report.phases import frontier, frontier_of, phases
from tutelage.report.read import read_run
from tutelage.report.timeline import timeline
from tutelage.stages.inspection import FATES


def test_the_timeline_tells_when_what_was_read_and_what_was_left(tmp_path: Path) -> None:
    write_run(tmp_path, questions=5, steps=2)
    write_json(tmp_path / "stages/02-learn/manifest.json", {
        "digest": "abcdef0123456789", "key": {"inputs": {"base": "0123456789abcdef"}},
    })  # fmt: skip
    write_json(tmp_path / "stages/03-after/begin.json", {"key": {"inputs": {"learn": "abcdef0123456789"}}})
    before, learn, after = timeline(read_run(tmp_path))
    assert [line.stage.seconds for line in (before, learn, after)] == [23.4, 22.4, 23.4]
    whole = 23.4 + 22.4 + 23.4
    assert learn.begins == pytest.approx(100 * 23.4 / whole)
    assert learn.takes == pytest.approx(100 * 22.4 / whole)
    assert after.begins + after.takes == pytest.approx(100)
    assert [(one.name, one.digest) for one in learn.reads] == [("base", "01234567")]
    assert learn.leaves is not None
    assert (learn.leaves.name, learn.leaves.digest, learn.path) == ("policy", "abcdef01", "stages/02-learn/model")
    assert before.leaves is None  # scores are for people
    assert [(one.name, one.digest) for one in after.reads] == [("learn", "abcdef01")]
    _, page = build(tmp_path)
    assert "read learn abcdef01" in page.text
    assert "left policy abcdef01 stages/02-learn/model" in page.text


def test_what_is_torn_leaves_no_gap_in_the_timeline(tmp_path: Path) -> None:
    write_run(tmp_path, questions=5, steps=2, until="learn")
    (tmp_path / "stages/02-learn/manifest.json").write_text('{"digest": "ab')
    lines_ = timeline(read_run(tmp_path))
    assert [line.takes > 0 for line in lines_] == [True, True, False]
    assert lines_[1].reads == []


def test_time_by_phase_sums_to_the_step_and_shows_the_wait_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, questions=2, steps=0)
    for step in (1, 2):
        append(tmp_path / "metrics.jsonl", {
            "stage": "learn", "step": step, "generate_seconds": 5.0, "learn_seconds": 4.0, "checkpoint_seconds": 1.5,
            "overhead_seconds": 0.5, "generate_gib": 2.0, "memory_gib": 3.0,
        })  # fmt: skip
    drawn: dict[str, object] = {}
    monkeypatch.setattr(shown_phases, "stacked", lambda title, steps, parts: drawn.update(time=(steps, parts)) or "")
    monkeypatch.setattr(shown_phases, "lines", lambda title, curves: drawn.update(memory=curves) or "")
    assert len(phases(read_run(tmp_path))) == 1
    parts = {"sampling": 5.0, "learning": 2.5, "waiting for a checkpoint": 1.5, "around": 0.5}  # 9.5 in all
    assert drawn["time"] == ([1, 2], {name: [seconds] * 2 for name, seconds in parts.items()})
    assert drawn["memory"] == {"after sampling": ([1, 2], [2.0] * 2), "after the step": ([1, 2], [3.0] * 2)}


def test_the_frontier_is_reward_over_the_kl_of_an_answer(tmp_path: Path) -> None:
    write_run(tmp_path, questions=2, steps=3)
    run = read_run(tmp_path)
    distance, reward = frontier_of(run.stages[1])
    assert distance == [row["kl"] * row["length"] for row in run.stages[1].rows]
    assert reward == [row["reward"] for row in run.stages[1].rows]
    assert frontier(run) is not None
    write_run(tmp_path / "none", questions=2, steps=0)
    assert frontier(read_run(tmp_path / "none")) is None


def test_drawings_of_several_keep_to_the_colours_of_the_page() -> None:
    svgs = [
        stacked("time", [1, 2], {"a": [1.0, 2.0], "b": [3.0, 4.0]}),
        lines("some", {"a": ([1, 2], [0.1, 0.2]), "<b>": ([1, 2], [0.3, 0.4])}),
        bands("seeds", [Band("a", [1, 2], [0.5, 0.6], [0.4, 0.5], [0.6, 0.7]), None]),
    ]
    for svg in svgs:
        ET.fromstring(re.sub("clip-path", "data-clip", svg))
        assert "var(--series-1)" in svg
        assert not re.search(r"#[0-9a-fA-F]{6}\b", svg)
    assert "&lt;b&gt;" in svgs[1]


def test_the_inspector_is_given_whole_steps_evenly_and_within_bounds(tmp_path: Path, monkeypatch) -> None:
    write_run(tmp_path, questions=2, steps=2)
    for step in range(1, 41):
        inspected_step(tmp_path, "learn", step, [inspected()])
    found = inspection(read_run(tmp_path))
    table = json.loads(found.data)
    assert (found.shown, found.total) == (24, 40)
    assert [table["steps"][0]["step"], table["steps"][-1]["step"]] == [1, 40]
    assert table["steps"][0]["samples"][0]["columns"]["learner"] == [-1.9, -1.8, -1.7]
    monkeypatch.setattr(shown, "_BYTES", 12_000)
    assert 1 <= inspection(read_run(tmp_path)).shown < 24


def test_torn_and_foreign_records_are_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, questions=2, steps=2)
    inspected_step(tmp_path, "learn", 1, [inspected(), inspected(columns={"learner": [1.0]}), {"pieces": 3}])
    folder = tmp_path / "stages/02-learn/inspect"
    (folder / "step-000002.json").write_text('{"stage": "learn", "samples": [')
    (step,) = json.loads(inspection(read_run(tmp_path)).data)["steps"]
    assert len(step["samples"]) == 1


def test_every_quantity_and_fate_is_explained() -> None:
    assert set(FATES) == set(FATES_IN_WORDS)
    for quantity in QUANTITIES.values():
        assert quantity.scale in get_args(get_type_hints(Quantity)["scale"])
        assert quantity.sentence.endswith(".")
    written = Path(__file__).parents[2] / "src/tutelage/stages/inspection.py"
    columns = set(re.findall(r'^            "(\w+)": ', written.read_text(), re.M)) & {
        "sampler", "learner", "ratio", "mismatch", "advantage", "push", "entropy",
    }  # fmt: skip
    assert len(columns) == 7
    assert columns | {"kl", "value", "return", "earned"} == set(QUANTITIES) - {"fate"}


def test_what_a_model_wrote_is_no_markup_in_the_inspector(tmp_path: Path) -> None:
    write_run(tmp_path, questions=2, steps=2)
    inspected_step(tmp_path, "learn", 1, [inspected(EVIL, prompt=EVIL, answer=EVIL, failure=EVIL, rewards={EVIL: 1.0})])
    html, page = build(tmp_path)
    assert EVIL not in html
    assert page.count("script") == 3  # the page's own, and two tables of data
    assert page.count("img") == 0
    (data,) = re.findall(r'<script type="application/json" id="inspect-data">(.*?)</script>', html, re.DOTALL)
    assert json.loads(data)["steps"][0]["samples"][0]["answer"] == EVIL


def test_a_run_without_records_has_no_inspector(tmp_path: Path) -> None:
    html, _ = build(write_run(tmp_path, questions=2, steps=1))
    assert 'id="inspect"' not in html
    assert Page(html).count("section") > 3
    assert RECIPE["name"] in html
