"""Scoring while sampling goes on gives what scoring afterwards gives, and hides neither a failure nor an interrupt."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from threading import Thread

import pytest

from tests.rewards.faulty import WRONG
from tests.rewards.made import group
from tests.rewards.test_suite import Unloadable, function, gone
from tutelage.errors import TutelageError
from tutelage.rewards import BackgroundScoring, NumericReward, RewardSuite, build_rewards
from tutelage.types import Group, Sample

MIXED = [
    function("raises"),
    function("good", name="good", weight=0.5),
    function("good_batch", name="batch", batch=True),
    {"type": "numeric"},
]


def found(groups: list[Group]) -> list[tuple[object, ...]]:
    return [(s.prompt_id, s.index, s.rewards, s.reward, s.failure) for g in groups for s in g.samples]


def made() -> list[Group]:
    return [group("42", WRONG, str(i), name=f"p{i}") for i in range(6)]


def scored_soon(sample: Sample) -> bool:
    deadline = time.monotonic() + 60
    while sample.reward is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return sample.reward is not None


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (5, 1, 0, 4, 2, 3)])
def test_scores_are_those_of_scoring_afterwards_whatever_order_groups_end_in(order: tuple[int, ...]) -> None:
    afterwards, meanwhile = made(), made()
    with RewardSuite(build_rewards(MIXED, "r"), workers=2) as suite:
        suite.score(afterwards)
        with BackgroundScoring(suite) as scoring:
            for number in order:
                scoring.add(meanwhile[number])
            scoring.wait()
    assert found(meanwhile) == found(afterwards)
    assert {sample.failure for g in meanwhile for sample in g.samples} == {
        None,
        "function: raised KeyError: 'no such thing'",
    }


def test_a_group_is_scored_while_its_caller_goes_on() -> None:
    first, second = group("42"), group("41")
    with RewardSuite(build_rewards([function("good")], "r")) as suite, BackgroundScoring(suite) as scoring:
        scoring.add(first)
        assert scored_soon(first.samples[0])  # although nobody waits for it
        scoring.add(second)
    assert [first.samples[0].reward, second.samples[0].reward] == [1.0, 0.0]  # leaving waits


def adds_and_waits(scoring: BackgroundScoring) -> None:
    scoring.add(group("a"))
    scoring.wait()


def adds_and_leaves(scoring: BackgroundScoring) -> None:
    scoring.add(group("a"))


def samples_for_a_minute(scoring: BackgroundScoring) -> None:
    for _ in range(6000):
        scoring.add(group("a"))
        time.sleep(0.01)
    raise AssertionError("nobody was told")


@pytest.mark.parametrize("caller", [adds_and_waits, adds_and_leaves, samples_for_a_minute])
def test_a_failure_of_the_scoring_reaches_its_caller(caller: Callable[[BackgroundScoring], None]) -> None:
    with RewardSuite([Unloadable()]) as suite, pytest.raises(TutelageError, match="the weights are gone"):
        run(suite, caller)


def run(suite: RewardSuite, caller: Callable[[BackgroundScoring], None]) -> None:
    with BackgroundScoring(suite) as scoring:
        caller(scoring)


def test_what_stops_the_sampling_abandons_the_scoring_and_kills_its_workers() -> None:
    pids: list[int] = []
    threads: list[Thread] = []

    def interrupted(scoring: BackgroundScoring) -> None:
        ready = group("a")
        scoring.add(ready)
        assert scored_soon(ready.samples[0])
        pids.extend(worker._process.pid for worker in suite._pool._workers)
        threads.append(scoring._thread)
        scoring.add(group(WRONG, WRONG))
        raise KeyboardInterrupt

    with RewardSuite(build_rewards([function("hangs")], "r"), timeout=600.0, workers=2) as suite:
        with pytest.raises(KeyboardInterrupt):
            run(suite, interrupted)
        assert not threads[0].is_alive()
        assert pids
        assert gone(pids)
        again = [group("a")]
        suite.score(again)  # what was given up does not answer for what comes later
        assert again[0].samples[0].reward == 1.0


@pytest.mark.parametrize("where", ["scoring.wait()", "time.sleep(600)"], ids=["waiting", "sampling"])
def test_ctrl_c_ends_a_process_whose_reward_hangs(where: str) -> None:
    program = (
        "import signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a parent may have had it ignored
        "from tests.rewards.made import group\n"
        "from tutelage.rewards import BackgroundScoring, RewardSuite, build_rewards\n"
        "table = {'type': 'function', 'function': 'tests.rewards.faulty:hangs'}\n"
        "with RewardSuite(build_rewards([table], 'r'), 600.0, 1) as suite, BackgroundScoring(suite) as scoring:\n"
        "    first = group('a')\n"
        "    scoring.add(first)\n"
        "    while first.samples[0].reward is None: time.sleep(0.01)\n"
        f"    scoring.add(group({WRONG!r}))\n"
        "    print(suite._pool._workers[0]._process.pid, flush=True)\n"
        f"    {where}\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in complaint
    assert gone([worker])


def test_components_of_this_process_are_scored_in_the_same_thread() -> None:
    groups = [group("42"), group("7")]
    with RewardSuite([NumericReward()]) as suite, BackgroundScoring(suite) as scoring:
        for one in groups:
            scoring.add(one)
    assert [g.samples[0].reward for g in groups] == [1.0, 0.0]
    assert not suite._pool._workers
