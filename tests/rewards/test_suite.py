"""The suite: weights and names, many components, workers that are reused, replaced and gone at the end."""

import os
import signal
import subprocess
import sys
import time
from itertools import permutations

import pytest

from tests.rewards.faulty import WRONG
from tests.rewards.made import group, scored
from tutelage.errors import ConfigError, TutelageError
from tutelage.rewards import LengthReward, NumericReward, Reward, RewardSuite, build_rewards
from tutelage.types import Prompt, Sample


def function(name, /, **options):
    return {"type": "function", "function": f"tests.rewards.faulty:{name}", **options}


class Unloadable(Reward):
    """A reward that cannot be loaded."""

    type: str = "unloadable"

    def prepare(self) -> None:
        raise OSError("the weights are gone")

    def score(self, prompt: Prompt, sample: Sample) -> float:
        return 1.0


class DiesLoading(Unloadable):
    """A reward whose loading kills the process."""

    def prepare(self) -> None:
        os._exit(9)


class SlowToLoad(Reward):
    """A reward that takes longer to load than a sample may take."""

    type: str = "slow"

    def prepare(self) -> None:
        time.sleep(0.6)

    def score(self, prompt: Prompt, sample: Sample) -> float:
        return 1.0


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pids):
    """Are the processes gone, at the latest in 5 s?"""
    deadline = time.monotonic() + 5
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(alive, pids))


def test_the_reward_is_the_weighted_sum_of_named_components():
    tables = [
        {"type": "numeric", "weight": 2.0},
        {"type": "length", "maximum": 2, "falloff": 2, "weight": -0.5, "name": "short"},
        {"type": "regex", "pattern": "4", "weight": 0.0, "name": "watched"},
    ]
    (sample,) = group_samples = group("42").samples
    with RewardSuite(build_rewards(tables, "r")) as suite:
        assert suite.labels == ("numeric", "short", "watched")
        suite.score([group_of(group_samples)])
    assert sample.rewards == {"numeric": 1.0, "short": 0.5, "watched": 1.0}  # without their weights
    assert sample.reward == 1.75


def group_of(samples):
    made = group("42")
    made.samples = samples
    return made


def test_a_faulty_component_leaves_the_others_recorded_but_no_reward():
    rewards = build_rewards([{"type": "length", "maximum": 5}, function("none"), function("raises", name="two")], "r")
    groups = [group("a", WRONG)]
    with RewardSuite(rewards) as suite:
        suite.score(groups)
    good, bad = groups[0].samples
    assert good.reward == 3.0
    assert bad.rewards == {"length": 1.0}
    assert bad.reward is None
    assert bad.failure == "function: returned None, not a number; two: raised KeyError: 'no such thing'"


def test_a_sum_out_of_range_is_a_fault():
    groups = [group("a")]
    with RewardSuite([LengthReward(target=3, weight=1e308), LengthReward(target=3, weight=1e308, name="b")]) as suite:
        suite.score(groups)
    assert groups[0].samples[0].reward is None
    assert "weighted sum" in groups[0].samples[0].failure


def test_scoring_again_forgets_what_was():
    groups = [group("41")]
    groups[0].samples[0].failure, groups[0].samples[0].rewards = "old", {"old": 1.0}
    with RewardSuite([NumericReward()]) as suite:
        suite.score(groups)
        suite.score(groups)
    assert (groups[0].samples[0].reward, groups[0].samples[0].failure) == (0.0, None)
    assert groups[0].samples[0].rewards == {"numeric": 0.0}


def test_results_depend_neither_on_order_nor_on_workers():
    def results(order, workers):
        groups = [group("42", WRONG, "x", name=str(i)) for i in order]
        rewards = build_rewards([function("raises"), function("good", name="good"), {"type": "numeric"}], "r")
        with RewardSuite(rewards, workers=workers) as suite:
            suite.score(groups)
        return {(s.prompt_id, s.index): (s.reward, s.failure) for g in groups for s in g.samples}

    first = results((0, 1, 2), 1)
    assert len(first) == 9
    assert all(
        results(order, workers) == first for order, workers in zip(permutations(range(3)), (2, 3, 5, 1), strict=False)
    )


def test_samples_are_scored_in_parallel_by_workers_that_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("MEETING_PLACE", str(tmp_path))  # workers inherit it: each sample waits for two at work at once
    with RewardSuite(build_rewards([function("company")], "r"), timeout=60, workers=4) as suite:
        groups = [group(*"abcdefgh")]
        suite.score(groups)
        assert [sample.failure for sample in groups[0].samples] == [None] * 8
        first = {sample.reward for sample in groups[0].samples}
        assert len(first) > 1
        suite.score(groups)
        assert len(first | {sample.reward for sample in groups[0].samples}) <= 4


def test_nothing_runs_before_it_is_needed_and_nothing_stays():
    with RewardSuite(build_rewards([function("process")], "r"), workers=3) as suite:
        assert not suite._pool._workers
        groups = [group(*"abcdef")]
        suite.score(groups)
        pids = {int(sample.reward) for sample in groups[0].samples}
        assert all(map(alive, pids))
        started = [worker._process.pid for worker in suite._pool._workers]
    assert gone([*pids, *started])
    with RewardSuite([NumericReward()]) as suite:
        suite.score([group("1")])
        assert not suite._pool._workers


def test_a_worker_that_died_while_idle_is_replaced():
    with RewardSuite(build_rewards([function("process")], "r"), workers=1) as suite:
        groups = [group("a")]
        suite.score(groups)
        first = int(groups[0].samples[0].reward)
        os.kill(first, signal.SIGKILL)
        time.sleep(0.1)
        suite.score(groups)
        assert groups[0].samples[0].failure is None
        assert int(groups[0].samples[0].reward) != first


def test_loading_is_not_charged_to_the_first_sample():
    groups = [group("a", "b")]
    with RewardSuite([SlowToLoad()], timeout=0.3, workers=2) as suite:
        suite.score(groups)
    assert [sample.reward for sample in groups[0].samples] == [1.0, 1.0]


@pytest.mark.parametrize(("kind", "message"), [(Unloadable, "the weights are gone"), (DiesLoading, "exit code 9")])
def test_a_worker_that_cannot_start_stops_the_run(kind, message):
    with RewardSuite([kind()]) as suite, pytest.raises(TutelageError, match=message):
        suite.score([group("a")])
    assert not suite._pool._workers


def test_workers_load_no_torch_although_the_parent_has():
    import torch

    assert torch
    (sample,) = scored(function("loaded"), [group("a")])
    assert sample.reward == 0.0


def test_an_interrupted_suite_answers_rightly_afterwards(monkeypatch):
    with RewardSuite(build_rewards([function("slow")], "r"), workers=2) as suite:
        with monkeypatch.context() as patch:
            patch.setattr(suite._pool, "_heard", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                suite.score([group(*"abcd")])
        assert not suite._pool._workers
        groups = [group(*"ab")]
        suite.score(groups)
        assert [sample.reward for sample in groups[0].samples] == [1.0, 1.0]


@pytest.mark.parametrize(("name", "text"), [("process", "a"), ("hangs", WRONG)])
def test_a_killed_parent_leaves_no_worker(name, text):
    """Idle workers see their parent's end; one that hangs is ended by its own clock, after 2 timeouts and 1 s."""
    program = (
        "import sys, time, threading, os, signal\n"
        "from tests.rewards.made import group\n"
        "from tutelage.rewards import RewardSuite, build_rewards\n"
        f"table = {function(name)!r}\n"
        "suite = RewardSuite(build_rewards([table], 'r'), timeout=0.5, workers=1)\n"
        "pool = suite._pool\n"
        "def end():\n"
        "    while not (pool._workers and pool._workers[0].ready): time.sleep(0.01)\n"
        "    time.sleep(0.2)\n"
        "    print(pool._workers[0]._process.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "threading.Thread(target=end).start()\n"
        f"suite.score([group({text!r})])\n"
        "time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 8
    while alive(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(int(done.stdout))


def test_two_components_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="already a reward's name"):
        RewardSuite([NumericReward(), NumericReward(strict=True)])
