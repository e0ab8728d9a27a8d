"""What an answer is worth: components with names and weights, run with timeouts, faults as data. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tutelage.config import build
from tutelage.errors import ConfigError
from tutelage.rewards.background import BackgroundScoring
from tutelage.rewards.base import Reward, refuse_ambiguous
from tutelage.rewards.code import CodeReward
from tutelage.rewards.countdown import CountdownReward
from tutelage.rewards.exact import ExactReward
from tutelage.rewards.form import FormatReward
from tutelage.rewards.function import FunctionReward
from tutelage.rewards.gym import GymReward
from tutelage.rewards.instructions import InstructionsReward
from tutelage.rewards.judge import JudgeReward
from tutelage.rewards.language import LanguageReward
from tutelage.rewards.length import LengthReward
from tutelage.rewards.majority import MajorityReward
from tutelage.rewards.maths import MathsReward
from tutelage.rewards.mixed import MixedReward
from tutelage.rewards.numeric import NumericReward
from tutelage.rewards.pattern import RegexReward
from tutelage.rewards.prediction import PredictionReward
from tutelage.rewards.refusal import RefusalReward
from tutelage.rewards.suite import RewardSuite
from tutelage.rewards.task import TaskReward

REWARDS: Final[Mapping[str, type[Reward]]] = {
    "code": CodeReward,
    "countdown": CountdownReward,
    "exact": ExactReward,
    "format": FormatReward,
    "function": FunctionReward,
    "instructions": InstructionsReward,
    "judge": JudgeReward,
    "language": LanguageReward,
    "length": LengthReward,
    "majority": MajorityReward,
    "maths": MathsReward,
    "numeric": NumericReward,
    "prediction": PredictionReward,
    "refusal": RefusalReward,
    "regex": RegexReward,
    "reasoning-gym": GymReward,
    "task": TaskReward,
}


def build_reward(table: object, where: str, more: Mapping[str, type[Reward]] | None = None) -> Reward:
    """The reward that a recipe's table declares.

    Args:
        more: kinds of other rooms, by their types.

    Raises:
        ConfigError: the table is wrong, or names what does not exist; the message names the key and the remedy.
        MissingExtraError: an optional package is not installed.
    """
    reward = build(table, {**REWARDS, **(more or {})}, Reward, where)
    reward.check(where)
    return reward


def build_rewards(
    tables: Sequence[object],
    where: str,
    task: Reward | None = None,
    more: Mapping[str, type[Reward]] | None = None,
) -> tuple[Reward, ...]:
    """The rewards that a stage's tables declare, no two with the same name.

    Args:
        task: the environment's scorer, which `{type = "task"}` stands for.
        more: kinds of other rooms, by their types.
    """
    rewards: list[Reward] = []
    for i, table in enumerate(tables):
        reward = build_reward(table, f"{where}[{i}]", more)
        if isinstance(reward, TaskReward):
            if task is None:
                raise ConfigError(f"{where}[{i}]: 'task' is an environment's own score, and there is no environment")
            reward = reward.resolve(task)
        rewards.append(reward)
    refuse_ambiguous(rewards, where)
    return tuple(rewards)


__all__ = [
    "REWARDS",
    "BackgroundScoring",
    "CodeReward",
    "CountdownReward",
    "ExactReward",
    "FormatReward",
    "FunctionReward",
    "GymReward",
    "InstructionsReward",
    "JudgeReward",
    "LanguageReward",
    "LengthReward",
    "MajorityReward",
    "MathsReward",
    "MixedReward",
    "NumericReward",
    "PredictionReward",
    "RefusalReward",
    "RegexReward",
    "Reward",
    "RewardSuite",
    "TaskReward",
    "build_reward",
    "build_rewards",
]
