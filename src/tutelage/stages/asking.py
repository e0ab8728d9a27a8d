"""Prompts asked once and their answers rewarded: what `evaluate` and `label` do."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from tutelage.config import Sampling
from tutelage.engines import build_engine
from tutelage.rewards import BackgroundScoring, Reward, RewardSuite
from tutelage.rollouts import record_samples, roll_out
from tutelage.seeds import derive_seed
from tutelage.stages.context import StageRun
from tutelage.stages.model_rewards import with_models
from tutelage.types import Group, Prompt


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
