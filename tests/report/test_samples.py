"""Which samples are shown: by place, never by outcome; and the page stays small."""

import json
from itertools import pairwise

from tests.report.factory import add_sample, write_run
from tutelage.report import samples
from tutelage.report.read import read_run
from tutelage.report.samples import browser, evenly, pairs


def test_evenly():
    assert evenly([1, 2, 3], 5) == [1, 2, 3]
    assert evenly(list(range(101)), 5) == [0, 25, 50, 75, 100]
    assert evenly([1, 2, 3], 1) == [3]
    assert evenly([], 3) == []


def test_a_small_run_is_shown_whole(tmp_path):
    shown = browser(read_run(write_run(tmp_path, questions=10, steps=3)))
    assert shown.shown == shown.total == 10 + 3 * 64 + 10
    before, learn, _ = json.loads(shown.data)
    assert [step["step"] for step in learn["steps"]] == [1, 2, 3]
    assert [len(group["samples"]) for group in learn["steps"][0]["groups"]] == [8] * 8
    assert before["steps"][0]["groups"][0]["answer"] == "16"


def test_a_large_run_is_cut_evenly_and_says_so(tmp_path):
    shown = browser(read_run(write_run(tmp_path, questions=10, steps=100)))
    assert shown.total == 6420
    _, learn, _ = json.loads(shown.data)
    steps = [step["step"] for step in learn["steps"]]
    assert len(steps) == samples._STEPS
    assert (steps[0], steps[-1]) == (1, 100)
    assert max(b - a for a, b in pairwise(steps)) <= 3
    assert {len(group["samples"]) for step in learn["steps"] for group in step["groups"]} == {8}  # whole groups
    assert shown.shown == sum(
        len(g["samples"]) for stage in json.loads(shown.data) for s in stage["steps"] for g in s["groups"]
    )


def test_long_texts_stay_within_the_bound(tmp_path):
    write_run(tmp_path, questions=5, steps=1)
    for i in range(1500):
        add_sample(tmp_path, "learn", 2 + i // 64, f"q{i // 8}", i % 8, "p" * 5000, None, "t" * 50_000, 1.0)
    shown = browser(read_run(tmp_path))
    assert len(shown.data) <= samples._BYTES
    assert 0 < shown.shown < shown.total
    assert "… (46,000 more characters)" in shown.data


def test_no_sample_can_end_the_script_it_stands_in(tmp_path):
    write_run(tmp_path, questions=2, steps=1, until="learn")
    evil = "</script><!-- <script>alert(1)"
    add_sample(tmp_path, "learn", 1, evil, 0, evil, evil, evil, 1.0, None)
    data = browser(read_run(tmp_path)).data
    assert "<" not in data
    assert json.loads(data)[1]["steps"][0]["groups"][-1]["samples"][0]["text"] == evil


def test_pairs_are_the_first_asked_and_the_first_that_got_worse(tmp_path):
    run = read_run(write_run(tmp_path, questions=60, steps=1))
    chosen = pairs(run, run.stages[0], run.stages[2])
    assert chosen is not None
    assert [pair.before["prompt_id"] for pair in chosen.first] == [f"sums-test-{i}" for i in range(6)]
    assert chosen.better + chosen.worse + chosen.same == 60
    assert all(pair.change < 0 for pair in chosen.got_worse)
    assert not {id(pair) for pair in chosen.first} & {id(pair) for pair in chosen.got_worse}
    before = run.stages[0].scores
    after = run.stages[2].scores
    gained = [q for q in before if None not in (before[q][0], after[q][0]) and after[q][0] > before[q][0]]
    assert chosen.better == len(gained)
    assert pairs(run, run.stages[0], run.stages[1]) is None


def test_an_answer_that_failed_is_no_change(tmp_path):
    run = read_run(write_run(tmp_path, questions=20, steps=1))
    chosen = pairs(run, run.stages[0], run.stages[2])
    assert chosen is not None
    (failed,) = [pair for pair in [*chosen.first, *chosen.got_worse] if pair.before["reward"] is None] or [None]
    assert failed is None or failed.change == 0
