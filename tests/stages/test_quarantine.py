"""Prompts that cannot be rewarded: counted, put away with their reason, replaced; the same after a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.scenarios import SCENARIOS, write
from tutelage.config import RlStage, read_recipe
from tutelage.errors import FailedSamplesError
from tutelage.pipelines import run_recipe
from tutelage.rollouts import prompts_of_step
from tutelage.stages.quarantine import Quarantine
from tutelage.training import Memory, Quiet
from tutelage.types import Group, Prompt, Sample

PROMPTS = [Prompt(str(number), text="?") for number in range(10)]


def quarantine(**stage: Any) -> tuple[Quarantine, Memory]:
    memory = Memory()
    settings = {"prompts_per_step": 4, "quarantine_after": 2, **stage}
    return Quarantine(RlStage(type="rl", name="rl", environment="e", **settings), memory), memory


def asked(name: str, *failures: str | None) -> Group:
    samples = [Sample(name, i, [5], [0.0], "", "stop", 0, failure=failure) for i, failure in enumerate(failures)]
    return Group(Prompt(name, text="?"), (1,), samples)


def test_only_failures_of_all_answers_and_in_a_row_count() -> None:
    tested, memory = quarantine()
    bad, half = asked("bad", "it broke", "it broke, too"), asked("half", "it broke", None)
    assert list(tested.judge([bad, half])) == []
    assert memory.failing == {"bad": 1}
    assert list(tested.judge([asked("bad", None, "x")])) == []  # a grader that had a bad hour
    assert memory.failing == {}
    assert list(tested.judge([bad, bad])) == [
        ("bad", "none of its answers could be rewarded, 2 times in a row; the last: it broke")
    ]
    assert (memory.failing, list(memory.quarantined)) == ({}, ["bad"])


def test_a_demonstration_is_no_answer() -> None:
    tested, memory = quarantine()
    group = asked("bad", "it broke", None)
    group.samples[1].expert = True
    list(tested.judge([group]))
    assert memory.failing == {"bad": 1}


@pytest.mark.parametrize("attempt", [0, 2])
def test_in_the_place_of_one_comes_another_and_the_others_keep_their_turn(attempt: int) -> None:
    tested, memory = quarantine()
    before = [[p.id for p in tested.prompts_of_step(PROMPTS, step, attempt, 7)] for step in range(30)]
    if attempt == 0:
        assert before == [[p.id for p in prompts_of_step(PROMPTS, step, 4, 7)] for step in range(30)]
    memory.quarantined = {"3": "why", "5": "why"}
    spares: set[str] = set()
    for step, was in enumerate(before):
        now = [p.id for p in tested.prompts_of_step(PROMPTS, step, attempt, 7)]
        kept = [name for name in was if name not in ("3", "5")]
        assert now[: len(kept)] == kept
        assert len(now) == 4
        if len(set(was)) == 4:  # a step that reaches over the end of an epoch may ask one twice by itself
            assert len(set(now)) == 4
        assert not {"3", "5"} & set(now)
        spares |= set(now[len(kept) :])
    assert len(spares) > 4  # not always the same


def test_where_too_few_are_left_it_stops_and_says_why() -> None:
    tested, memory = quarantine()
    memory.quarantined = {str(number): "it broke" for number in range(7)}
    words = r"7 of 10 prompts are not asked any more.*2 times in a row.*quarantined\.json"
    with pytest.raises(FailedSamplesError, match=words):
        [tested.prompts_of_step(PROMPTS, step, 0, 7) for step in range(3)]


def test_a_run_tells_what_it_asks_no_more(tmp_path: Path) -> None:
    class Notes(Quiet):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def note(self, text: str) -> None:
            self.heard.append(text)

    notes = Notes()
    run_recipe(read_recipe(write(tmp_path, SCENARIOS["grpo"])), tmp_path / "run", notes)
    out = tmp_path / "run/stages/01-learn"
    told = json.loads((out / "quarantined.json").read_text())
    metrics = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    samples = [json.loads(line) for line in (tmp_path / "run/samples.jsonl").read_text().splitlines()]
    assert told
    assert json.loads((out / "result.json").read_text())["quarantined"] == len(told)
    assert metrics[-1]["quarantined"] <= len(told)
    for name, reason in told.items():
        assert any(f"learn: prompt '{name}' is asked no more: {reason}" in line for line in notes.heard)
        own = [sample for sample in samples if sample["prompt_id"] == name]
        steps = sorted({sample["step"] for sample in own})
        for step in steps[-2:]:  # its last two times, all failed; and no more after that
            assert all("the grader is tired" in s["failure"] for s in own if s["step"] == step)
        assert len(steps) >= 2
