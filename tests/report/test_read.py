"""The reader takes a run as it is: finished, under way, torn by a kill."""

import json

from tests.report.factory import FAILURES, RECIPE, add_sample, write_run
from tutelage.report.read import SampleLog, read_run


def test_a_finished_run(tmp_path):
    run = read_run(write_run(tmp_path, questions=30, steps=4))
    assert run.finished
    assert run.recipe == RECIPE
    assert run.machine["cores"] == 2
    before, learn, after = run.stages
    assert [stage.name for stage in run.stages] == ["before", "learn", "after"]
    assert len(before.scores) == len(after.scores) == 30
    assert not learn.scores
    assert [row["step"] for row in learn.rows] == [1, 2, 3, 4]
    assert before.seconds == 23.4  # as it says itself
    assert learn.seconds == 4 * 11.2  # the sum over its steps


def test_an_unfinished_run(tmp_path):
    write_run(tmp_path, questions=5, steps=2, until="learn")
    (tmp_path / "stages" / "02-learn" / "result.json").unlink()
    run = read_run(tmp_path)
    assert not run.finished
    assert [stage.began for stage in run.stages] == [True, True, False]
    assert [stage.result is not None for stage in run.stages] == [True, False, False]
    assert run.stages[2].seconds is None


def test_an_empty_folder(tmp_path):
    run = read_run(tmp_path)
    assert (run.recipe, run.stages, run.finished, run.declared) == ({}, [], False, None)
    assert not run.samples.places


def test_torn_and_foreign_lines_are_left_out(tmp_path):
    write_run(tmp_path, questions=3, steps=2, until="learn")
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'[1, 2]\n{"stage": "learn"}\n{"stage": "learn", "step": 3, "rew')
    with (tmp_path / "samples.jsonl").open("ab") as file:
        file.write('{"stage": "learn", "step": 2, "text": "数'.encode()[:-1])
    (tmp_path / "stages" / "01-before" / "result.json").write_text('{"type": "eval')
    run = read_run(tmp_path)
    assert [row["step"] for row in run.stages[1].rows] == [1, 2]
    assert run.samples.places[("learn", 2)] == 64
    assert run.stages[0].result is None


def test_samples_are_found_by_place_without_being_held(tmp_path):
    path = tmp_path / "samples.jsonl"
    for step, text in ((1, "eins"), (2, "zwei 数学 🎓"), (1, "uno")):
        add_sample(tmp_path, "learn", step, "q", 0, "?", None, text, 1.0)
    add_sample(tmp_path, "learn", 2, "q", 0, "?", None, "x", 0.0, FAILURES[0])
    log = SampleLog(path)
    assert log.places == {("learn", 1): 2, ("learn", 2): 2}
    assert [row["text"] for row in log.at(("learn", 1))] == ["eins", "uno"]
    assert next(log.at(("learn", 2)))["text"] == "zwei 数学 🎓"
    assert list(log.at(("learn", 9))) == []
    assert log.failures == {("learn", FAILURES[0]): 1}
    json.dumps(list(log.at(("learn", 2))))
