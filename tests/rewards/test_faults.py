"""Whatever goes wrong with a reward is the recorded fault of its own sample, never a 0 (RELIABILITY, 20 and 21)."""

import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.rewards.faulty import WRONG
from tests.rewards.made import group, scored


def function(name, /, **options):
    return {"type": "function", "function": f"tests.rewards.faulty:{name}", **options}


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("hangs", "function: timed out after 0.5 s"),
        ("hangs_async", "function: timed out after 0.5 s"),
        ("hangs_in_a_child", "function: timed out after 0.5 s"),
        ("dies", "function: killed its worker (exit code 3)"),
        ("crashes", "function: killed its worker (exit code -11)"),
        ("leaves", "function: raised SystemExit: 3"),
        ("raises", "function: raised KeyError: 'no such thing'"),
        ("raises_unpicklable", "function: raised Odd: 1 2"),
        ("none", "function: returned None, not a number"),
        ("nan", "function: returned nan, not a finite number"),
        ("infinite", "function: returned -inf, not a finite number"),
        ("text", "function: returned str '1.0', not a number"),
        ("table", "function: returned dict {'score': 1.0}, not a number"),
    ],
)
def test_a_fault_costs_its_own_sample_only(name, failure):
    samples = scored(function(name), [group("a", WRONG, "b", name="p"), group(WRONG, "c", name="q")], timeout=0.5)
    assert [sample.failure for sample in samples] == [None, failure, None, failure, None]
    assert [sample.reward for sample in samples] == [1.0, None, 1.0, None, 1.0]
    assert [sample.rewards for sample in samples] == [{"function": 1.0}, {}, {"function": 1.0}, {}, {"function": 1.0}]


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("short_batch", "function: returned 2 scores for 3 samples"),
        ("number_for_batch", "function: returned float 1.0, not a list of 3 numbers"),
        ("raises_in_batch", "function: raised RuntimeError: batch"),
        ("hangs_in_batch", "function: timed out after 1.5 s"),  # 0.5 s for each of three
    ],
)
def test_a_batchs_fault_costs_its_own_group_only(name, failure):
    groups = [group("a", WRONG, "b", name="p"), group("c", "d", name="q")]
    samples = scored(function(name, batch=True), groups, timeout=0.5)
    assert [sample.failure for sample in samples] == [failure] * 3 + [None] * 2
    assert [sample.reward for sample in samples] == [None] * 3 + [1.0] * 2


def test_a_bad_score_within_a_batch_costs_its_own_sample_only():
    samples = scored(function("nan_in_batch", batch=True), [group("a", WRONG, "b")])
    assert [sample.reward for sample in samples] == [1.0, None, 1.0]


@pytest.mark.parametrize(
    ("name", "batch"),
    [("good", False), ("good_async", False), ("true", False), ("good_batch", True), ("good_batch_async", True),
     ("array_batch", True)],
)  # fmt: skip
def test_what_is_right_is_scored(name, batch):
    samples = scored(function(name, batch=batch), [group("42", "41"), group("7", answer="7", name="q")])
    assert [sample.reward for sample in samples] == [1.0, 0.0, 1.0]
    assert all(sample.failure is None and type(sample.reward) is float for sample in samples)


def test_what_a_hung_reward_has_started_dies_with_it():
    scored(function("hangs_in_a_child"), [group(WRONG)], timeout=0.5)
    deadline = time.monotonic() + 5
    while (left := sleepers()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def sleepers():
    """The children that `hangs_in_a_child` leaves: they sleep for 77.125 s."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if b"time.sleep(77.125)" in file.read_bytes():
                found.append(file.parent.name)
    return found


def test_a_sample_that_cannot_be_sent_is_a_fault():
    groups = [group("a"), group("b", name="q")]
    object.__setattr__(groups[0].prompt, "meta", {"lambda": lambda: None})
    bad, good = scored(function("hangs"), groups)
    assert good.reward == 1.0
    assert bad.failure.startswith("function: cannot be sent to a worker")


def test_a_missing_gold_answer_is_a_fault_in_process_too():
    samples = scored({"type": "numeric"}, [group("42", answer=None), group("42")])
    assert [sample.reward for sample in samples] == [None, 1.0]
    assert "no gold answer" in samples[0].failure
