"""The reward `task`: the environment's own score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tutelage.errors import ConfigError
from tutelage.rewards.base import Reward
from tutelage.types import Prompt, Sample


class TaskReward(Reward):
    """Stands for the environment's scorer, with this table's name and weight."""

    isolated: ClassVar[bool] = False

    type: str = "task"

    def score(self, prompt: Prompt, sample: Sample) -> float:
        raise NotImplementedError("the reward 'task' stands for the environment's scorer: see resolve_task")


def resolve_task(rewards: Sequence[Reward], scorer: Reward | None) -> tuple[Reward, ...]:
    """The rewards with the environment's scorer in the place of `{type = "task"}`."""
    resolved: list[Reward] = []
    for reward in rewards:
        if not isinstance(reward, TaskReward):
            resolved.append(reward)
        elif scorer is None:
            raise ConfigError("rewards: {type = 'task'} is the environment's own score, and none was given")
        else:
            resolved.append(scorer.model_copy(update={"name": reward.label, "weight": reward.weight}))
    return tuple(resolved)
