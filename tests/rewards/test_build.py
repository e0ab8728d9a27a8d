"""Rewards from a recipe's tables: what is refused before any weight is loaded, and what workers load."""

import subprocess
import sys

import pytest

from tests.rewards.made import group
from tutelage.errors import ConfigError
from tutelage.rewards import REWARDS, NumericReward, Reward, RewardSuite, build_rewards
from tutelage.types import Prompt, Sample


class Half(Reward):
    """A user's own kind."""

    type: str = "tests.rewards.test_build:Half"

    def score(self, prompt: Prompt, sample: Sample) -> float:
        return 0.5


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("tests.rewards.faulty:god", r"r\[0\]\.function: module .* has no 'god': did you mean 'good'"),
        ("tests.rewards.falty:good", r"r\[0\]\.function: cannot import 'tests.rewards.falty'"),
        ("tests.rewards.faulty:NOT_A_FUNCTION", "is no function"),
        ("tests.rewards.faulty:one_argument", r"cannot be called with \(prompt, sample\)"),
        ("good", r"r\[0\]\.function"),
    ],
)
def test_a_function_that_does_not_exist_is_refused(function, message):
    with pytest.raises(ConfigError, match=message):
        build_rewards([{"type": "function", "function": function}], "r")


def test_two_rewards_of_one_name_are_refused():
    with pytest.raises(ConfigError, match=r"r\[1\]\.name: 'numeric' is already"):
        build_rewards([{"type": "numeric"}, {"type": "numeric", "strict": True}], "r")
    named = build_rewards([{"type": "numeric"}, {"type": "numeric", "strict": True, "name": "terse"}], "r")
    assert [reward.label for reward in named] == ["numeric", "terse"]


def test_no_reward_is_refused():
    with pytest.raises(ConfigError, match="at least one"):
        build_rewards([], "r")


def test_task_is_the_environments_scorer_under_the_tables_name_and_weight():
    scorer = NumericReward(strict=True)
    first, second = build_rewards([{"type": "task", "weight": 2.0}, {"type": "task", "name": "again"}], "r", scorer)
    assert first == NumericReward(strict=True, name="task", weight=2.0)
    assert (second.label, second.weight) == ("again", 1.0)
    with pytest.raises(ConfigError, match="no environment"):
        build_rewards([{"type": "task"}], "r")


def test_a_users_own_kind_is_isolated():
    rewards = build_rewards([{"type": "tests.rewards.test_build:Half", "weight": 3.0, "name": "half"}], "r")
    assert rewards[0].isolated
    groups = [group("a", "b")]
    with RewardSuite(rewards) as suite:
        suite.score(groups)
    assert [(s.reward, s.rewards) for s in groups[0].samples] == [(1.5, {"half": 0.5})] * 2


def test_every_kind_is_called_by_its_type():
    assert all(kind.model_fields["type"].default == name for name, kind in REWARDS.items())


def test_the_room_loads_nothing_heavy():
    heavy = "torch", "transformers", "sympy", "math_verify", "reasoning_gym", "datasets", "numpy"
    program = f"import sys, tutelage.rewards, tutelage.rewards.worker; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
