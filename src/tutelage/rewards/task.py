"""The reward `task`: the environment's own score."""

from __future__ import annotations

from typing import ClassVar

from tutelage.errors import ConfigError
from tutelage.rewards.base import Reward
from tutelage.types import Prompt, Sample


class TaskReward(Reward):
    """Stands for the environment's scorer, with this table's name and weight, and where and when it counts."""

    isolated: ClassVar[bool] = False

    type: str = "task"

    def score(self, prompt: Prompt, sample: Sample) -> float:
        raise ConfigError("the reward 'task' stands for the environment's scorer; `build_rewards` puts it there")

    def resolve(self, scorer: Reward) -> Reward:
        """The environment's scorer with what this table says of it."""
        own = {"name": self.label, "weight": self.weight, "only": self.only, "after": self.after}
        return scorer.model_copy(update=own)
