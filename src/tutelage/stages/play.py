"""The `play` stage: episodes in a gymnasium environment, with a trained policy or one that is written by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from tutelage.config import PlayStage, Recipe, load_object
from tutelage.environments.control import Gymnasium, build_control
from tutelage.errors import ConfigError
from tutelage.models.control import load_control_policy
from tutelage.seeds import derive_seed
from tutelage.stages.context import Result, StageRun

Act = Callable[[np.ndarray], np.ndarray]  # observations [E, O] to actions [E] or [E, K]
_TOGETHER = 8  # environments


@dataclass(frozen=True, slots=True)
class PlayPlan:
    """The stage with everything resolved that can be known before it runs."""

    stage: PlayStage
    environment: Gymnasium
    by_hand: Act | None


def plan_play(stage: PlayStage, recipe: Recipe) -> PlayPlan:
    """Resolves and checks the stage. Raises ConfigError with the remedy."""
    environment = build_control(recipe.environments[stage.environment], f"environments.{stage.environment}")
    if stage.policy is None:
        if not any(other.type == "control" for other in recipe.before(stage.name)):
            raise ConfigError(
                f"{stage.name}.policy: no control stage comes before this one; put one there, or name a function"
            )
        return PlayPlan(stage, environment, None)
    return PlayPlan(stage, environment, cast(Act, load_object(stage.policy, f"{stage.name}.policy")))


def run_play(plan: PlayPlan, run: StageRun) -> Result:
    """Plays the episodes. Their returns are the scores."""
    stage = plan.stage
    run.cut_back(run.start)
    act = plan.by_hand or _trained(run.model, None if stage.greedy else derive_seed(run.seed, "act"))
    returns = play(plan.environment, act, stage.episodes, derive_seed(run.seed, "play"))
    scores = {str(number): [earned] for number, earned in enumerate(returns)}
    return {"type": "play", "environment": stage.environment, "scores": scores}


def play(environment: Gymnasium, act: Act, episodes: int, seed: int) -> list[float]:
    """The returns of so many episodes, each from a beginning of its own that depends on the seed alone."""
    returns: list[float] = []
    while len(returns) < episodes:
        copies = min(_TOGETHER, episodes - len(returns))
        several = environment.make(copies)
        beginnings = [derive_seed(seed, len(returns) + place) % 2**31 for place in range(copies)]
        shown_EO, _ = several.reset(seed=beginnings)
        earned_E, over_E = np.zeros(copies), np.zeros(copies, dtype=bool)
        while not over_E.all():
            shown_EO, rewards_E, ended_E, cut_E, _ = several.step(act(shown_EO))
            earned_E += np.where(over_E, 0.0, rewards_E)
            over_E |= ended_E | cut_E
        several.close()
        returns += earned_E.tolist()
    return returns


def _trained(folder: Path, seed: int | None) -> Act:
    policy, statistics = load_control_policy(folder)
    random = None if seed is None else np.random.default_rng(seed)
    return lambda shown_EO: policy.allowed(policy.act(statistics.normalised(shown_EO), random))
