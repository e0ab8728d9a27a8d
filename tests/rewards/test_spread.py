"""Rewards that tell what single tokens earned: weighed, added up, checked, and sent back by workers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import pytest

from tests.rewards.made import group, scored
from tutelage.rewards import LengthReward, Reward, RewardSuite
from tutelage.rewards.base import Spread
from tutelage.types import Group, Prompt, Sample


class Ramp(Reward):
    """0, 1, 2, ... for the tokens of a sample, all at once; `scale` times as much."""

    isolated: ClassVar[bool] = False
    together: ClassVar[bool] = True
    type: str = "ramp"
    scale: float = 1.0

    @property
    def spreads(self) -> bool:
        return True

    def score(self, prompt: Prompt, sample: Sample) -> Spread:
        return Spread(tuple(self.scale * i for i in range(len(sample.tokens))))

    def score_groups(self, groups: Sequence[Group]) -> list[list[Spread]]:
        return [[self.score(group.prompt, sample) for sample in group.samples] for group in groups]


def ramp(prompt: Prompt, sample: Sample) -> Spread:
    """A user's own function, in a worker."""
    return Spread(tuple(map(float, range(len(sample.tokens)))))


def test_tokens_are_weighed_and_added_up_beside_whole_rewards() -> None:
    rewards = [Ramp(weight=0.5), Ramp(name="steep", scale=10.0, weight=-1.0), LengthReward(target=3, weight=4.0)]
    groups = [group("a", "b"), group("c")]
    with RewardSuite(rewards) as suite:
        suite.score(groups)
    for sample in (sample for one in groups for sample in one.samples):
        assert sample.rewards == {"ramp": 3.0, "steep": 30.0, "length": 1.0}  # sums, without their weights
        assert sample.token_rewards == [0.0, -9.5, -19.0]
        assert sample.reward == 1.5 - 30.0 + 4.0 == sum(sample.token_rewards) + 4.0


def test_what_is_only_watched_leaves_no_token_a_reward() -> None:
    (only,) = (watched := group("a")).samples
    with RewardSuite([Ramp(weight=0.0), LengthReward(target=3)]) as suite:
        suite.score([watched])
    assert (only.reward, only.rewards["ramp"], only.token_rewards) == (1.0, 3.0, [])


def test_a_failure_beside_it_takes_the_tokens_rewards_too() -> None:
    class Tired(Ramp):
        def score(self, prompt: Prompt, sample: Sample) -> Spread:
            raise RuntimeError("tired")

    (only,) = (asked := group("a")).samples
    only.token_rewards = [7.0]
    with RewardSuite([Ramp(), Tired(name="tired")]) as suite:
        suite.score([asked])
    assert only.reward is None
    assert only.failure == "tired: raised RuntimeError: tired"
    assert only.token_rewards == []


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ((1.0, 2.0), "returned 2 numbers for the 3 tokens of a sample"),
        ((1.0, math.nan, 2.0), "returned nan for token 1, not a finite number"),
        ((1.0, 2.0, -math.inf), "returned -inf for token 2, not a finite number"),
    ],
)
def test_a_wrong_spread_is_a_fault(numbers: tuple[float, ...], reason: str) -> None:
    class Wrong(Ramp):
        def score(self, prompt: Prompt, sample: Sample) -> Spread:
            return Spread(numbers)

    (only,) = (asked := group("a")).samples
    with RewardSuite([Wrong()]) as suite:
        suite.score([asked])
    assert only.failure == f"ramp: {reason}"


def test_a_users_function_may_tell_of_tokens() -> None:
    (only,) = scored({"type": "function", "function": "tests.rewards.test_spread:ramp"}, [group("a")])
    assert (only.reward, only.token_rewards) == (3.0, [0.0, 1.0, 2.0])
