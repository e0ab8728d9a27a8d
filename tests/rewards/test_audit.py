"""The audit: shipped rewards pass it, and one that can be gamed, hung or crashed does not (RELIABILITY, 37 and 38)."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tutelage.errors import ConfigError
from tutelage.rewards import build_reward
from tutelage.rewards.adversaries import adversaries
from tutelage.rewards.audit import Audit, _Playing, audit, golds_for, share
from tutelage.rewards.base import Fault
from tutelage.rewards.gold import NUMBERS, WORDS, Gold
from tutelage.types import Prompt, Sample


def gullible(prompt: Prompt, sample: Sample) -> float:
    """A judge as models were seen to be: anything that sounds like the beginning of a solution is right."""
    return float("Solution" in sample.text or (prompt.answer or "") in sample.text)


def hangs_on_towers(prompt: Prompt, sample: Sample) -> float:
    if sample.text == "9" * 200_000:
        time.sleep(60)
    return float(sample.text.strip() == prompt.answer)


def busy(prompt: Prompt, sample: Sample) -> float:
    """A third of a second of work."""
    ends = time.process_time() + 0.3
    while time.process_time() < ends:
        pass
    return 1.0


def crashes(prompt: Prompt, sample: Sample) -> float:
    return float(int(sample.text) == int(prompt.answer or "0"))


def polite(prompt: Prompt, sample: Sample) -> float:
    return float("please" in sample.text or not sample.text)


def found(name: str, golds: tuple[Gold, ...] = NUMBERS[:2], **more: object) -> Audit:
    table = {"type": "function", "function": f"tests.rewards.test_audit:{name}"}
    return audit(build_reward(table, "r"), golds, **more)  # type: ignore[arg-type]


SHIPPED = [
    {"type": "numeric"},
    {"type": "numeric", "strict": True},
    {"type": "numeric", "tag": "answer"},
    {"type": "exact"},
    {"type": "exact", "tag": "answer"},
    {"type": "maths"},
    {"type": "maths", "unboxed": "whole"},
    {"type": "prediction"},
    {"type": "majority"},
]
OF_FORM = [
    {"type": "format"},
    {"type": "length", "target": 100},
    {"type": "regex", "pattern": "(a+)+b", "timeout": 0.3},
    {"type": "language", "language": "en"},
    {"type": "language", "language": "zh", "reads": "whole"},
]


def named(table: dict[str, object]) -> str:
    return " ".join(map(str, table.values()))


@pytest.mark.parametrize("table", SHIPPED, ids=named)
def test_shipped_rewards_pass(table: dict[str, object]) -> None:
    reward = build_reward(table, "r")
    golds = golds_for(reward)
    came = audit(reward, golds[:2], limit=1.0)
    assert came.kind == "answer"
    assert len(came.wrong) > 100
    assert not came.false_positives
    assert not came.false_negatives
    assert not came.failures
    assert not came.slow


@pytest.mark.parametrize("table", OF_FORM, ids=named)
def test_rewards_of_form_neither_crash_nor_hang(table: dict[str, object]) -> None:
    came = audit(build_reward(table, "r"), WORDS[:2], limit=1.0)
    assert came.kind == "form"
    assert not came.wrong
    assert not came.slow
    if table["type"] == "regex":  # it says so itself where a pattern runs wild
        assert all("TimeoutError" in trial.score.reason for trial in came.failures if isinstance(trial.score, Fault))
    else:
        assert not came.failures


def test_what_pays_for_nothing_is_told() -> None:
    assert found("polite", kind="form").for_nothing == 1.0
    assert audit(build_reward({"type": "length", "maximum": 400}, "r"), WORDS[:1], kind="form").for_nothing == 1.0
    assert audit(build_reward({"type": "format"}, "r"), WORDS[:1], kind="form").for_nothing == 0.0


def test_a_gullible_reward_is_found_out() -> None:
    came = found("gullible")
    assert came.kind == "answer"
    paid = {(trial.answer.family, trial.answer.name) for trial in came.false_positives}
    assert {("master key", "Solution"), ("hedge", "either"), ("hedge", "numbers in order")} <= paid
    assert not paid & {("form", "wrong"), ("nothing", "empty")}
    assert 0.05 < share(came.false_positives, came.wrong) < 0.95


def test_a_reward_that_hangs_is_killed_and_the_audit_goes_on() -> None:
    begun = time.perf_counter()
    came = found("hangs_on_towers", NUMBERS[:1], limit=0.4)
    slow = {trial.answer.name for trial in came.slow}
    assert "digits" in slow
    assert all("timed out after 2 s" in trial.score.reason for trial in came.slow if isinstance(trial.score, Fault))
    assert all(trial.paid for trial in came.right if trial.answer.name == "gold")
    assert time.perf_counter() - begun < 60


def test_time_without_a_core_is_not_counted() -> None:
    reward = build_reward({"type": "function", "function": "tests.rewards.test_audit:busy"}, "r")
    neighbours = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3 * (os.cpu_count() or 1))
    ]
    try:
        with _Playing(reward, 60.0) as playing:
            _, seconds = playing.score(NUMBERS[0].prompt, "x")
    finally:
        for one in neighbours:
            one.kill()
    assert 0.2 < seconds < 0.8  # its own time, not that of its neighbours


def test_a_reward_that_crashes_is_found_out() -> None:
    came = found("crashes", NUMBERS[:1])
    assert len(came.failures) > 50
    assert all(isinstance(one.score, Fault) and "ValueError" in one.score.reason for one in came.failures)
    assert not any(trial.paid for trial in came.failures)


def test_a_kind_is_found_out_with_one_question_too() -> None:
    assert found("hangs_on_towers", NUMBERS[:1], limit=0.4).kind == "answer"


def test_adversaries_never_give_the_right_answer_last() -> None:
    for gold in NUMBERS[:2]:
        played = list(adversaries(gold.asked, gold.answer, gold.wrong))
        assert len({(one.family, one.name) for one in played}) == len(played) > 90
        assert gold.answer not in [one.text.strip() for one in played]


def test_an_environments_own_score_has_no_table_of_its_own() -> None:
    from tutelage.cli.audit import _named

    with pytest.raises(ConfigError, match=r"name a recipe's stage instead: RECIPE#STAGE"):
        next(_named("task", None))
