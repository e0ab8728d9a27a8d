"""Prompts asked once and their answers rewarded: what `evaluate`, `label` and `compare` share."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from tutelage.config import CompareStage, EvaluateStage, LabelStage, Recipe, Sampling
from tutelage.engines import build_engine
from tutelage.environments import build_environment
from tutelage.rewards import BackgroundScoring, Reward, RewardSuite
from tutelage.rollouts import record_samples, roll_out
from tutelage.seeds import derive_seed
from tutelage.stages.context import StageRun, prompts_of
from tutelage.stages.model_rewards import stage_rewards, with_models
from tutelage.types import Group, Prompt


def plan_questions(
    stage: EvaluateStage | LabelStage | CompareStage, recipe: Recipe, must_reach: bool
) -> tuple[tuple[Reward, ...], Sequence[Prompt]]:
    """The rewards of a stage and the prompts that it asks, as many as its `questions`. Raises with the remedy."""
    environment = build_environment(recipe.environments[stage.environment], f"environments.{stage.environment}")
    rewards = stage_rewards(stage, stage.rewards, recipe, environment.scorer())
    return rewards, prompts_of(environment, stage.split, must_reach)[: stage.questions]


def ask(
    run: StageRun,
    prompts: Sequence[Prompt],
    answers: int,
    sampling: Sampling,
    rewards: Sequence[Reward],
    reward_timeout: float,
) -> tuple[list[Group], float]:
    """The rewarded answers of the stage's policy, all recorded, and the seconds that sampling took.

    Begins anew where a killed run had begun: what that has recorded is cut off.
    """
    run.cut_back(run.start)
    policy = run.load_policy()
    engine = build_engine(run.recipe.engine, policy)
    wanted = len(prompts) * answers
    started = perf_counter()
    with (
        RewardSuite(with_models(rewards, run), reward_timeout) as suite,
        BackgroundScoring(suite) as scoring,
    ):
        groups = roll_out(
            engine,
            policy.tokenizer,
            prompts,
            answers,
            sampling,
            derive_seed(run.seed, run.stage.type),
            watch=lambda done, _: run.progress.progress(done, wanted, "answers"),
            finished=scoring.add,
        )
        seconds = perf_counter() - started
        scoring.wait()
    record_samples(run.samples, run.stage.name, 0, groups)
    return groups, seconds
