"""What an `rl` stage refuses with self-play."""

from __future__ import annotations

from tutelage.algorithms import Algorithm
from tutelage.config import RlStage
from tutelage.environments import SelfPlay
from tutelage.errors import ConfigError
from tutelage.stages.match import refuse_idle

_IDLE = (
    "split",
    "rewards",
    "refills",
    "reward_timeout",
    "max_failed_share",
    "quarantine_after",
    "band",
    "dynamic_from",
)


def check_self_play(stage: RlStage, algorithm: Algorithm, environment: SelfPlay) -> None:
    """Raises ConfigError with the remedy where a stage asks of self-play what it does not have."""
    if algorithm.least_completions > 1 or algorithm.needs_greedy or algorithm.needs_expert:
        raise ConfigError(
            f"{stage.name}.algorithm: '{algorithm.type}' compares answers that stand for each other, and in self-play "
            "each belongs to an episode of its own; take 'spiral', 'trr_pp' or 'reinforce'"
        )
    environment.check_attempts(stage.completions_per_prompt, f"{stage.name}.completions_per_prompt")
    if stage.prompts_per_step < 2:
        raise ConfigError(
            f"{stage.name}.prompts_per_step: 1 episode a step has no others to be compared with; set it to 2 or more"
        )
    refuse_idle(stage, _IDLE)
