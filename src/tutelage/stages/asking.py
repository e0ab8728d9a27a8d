"""Prompts asked once and their answers rewarded: what `evaluate`, `label`, `rejection` and `compare` share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from tutelage.config import CompareStage, EvaluateStage, LabelStage, Recipe, RejectionStage, Sampling, SycophancyStage
from tutelage.engines import Engine, build_engine
from tutelage.environments import Environment
from tutelage.errors import FailedSamplesError
from tutelage.models import Policy
from tutelage.rewards import BackgroundScoring, Reward, RewardSuite
from tutelage.rollouts import Beginning, go_on, prompts_begun, record_samples
from tutelage.seeds import derive_seed
from tutelage.stages.context import StageRun, environment_before, prompts_of
from tutelage.stages.model_rewards import stage_rewards, with_models
from tutelage.types import Group, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def plan_questions(
    stage: EvaluateStage | LabelStage | RejectionStage | CompareStage | SycophancyStage,
    recipe: Recipe,
    must_reach: bool,
) -> tuple[Environment, tuple[Reward, ...], Sequence[Prompt]]:
    """A stage's environment and rewards, and as many prompts as its `questions`. Raises with the remedy."""
    environment = environment_before(recipe, stage.environment, stage.name)
    rewards = stage_rewards(stage, stage.rewards, recipe, environment)
    return environment, rewards, prompts_of(environment, stage.split, must_reach)[: stage.questions]


@dataclass(frozen=True, slots=True)
class Asking:
    """The stage's policy, asked for answers that are rewarded as they come."""

    run: StageRun
    policy: Policy
    engine: Engine
    suite: RewardSuite

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.policy.tokenizer

    def begun(self, prompts: Sequence[Prompt]) -> list[Beginning]:
        """The prompts, with the stage's own noise for the answers to each."""
        return prompts_begun(self.tokenizer, prompts, derive_seed(self.run.seed, self.run.stage.type))

    def rewarded(self, beginnings: Sequence[Beginning], answers: int, sampling: Sampling) -> tuple[list[Group], float]:
        """So many rewarded answers that begin so, and the seconds that sampling took."""
        wanted = len(beginnings) * answers
        started = perf_counter()
        with BackgroundScoring(self.suite) as scoring:
            groups = go_on(
                self.engine,
                self.tokenizer,
                beginnings,
                answers,
                sampling,
                watch=lambda done, _: self.run.progress.progress(done, wanted, "answers"),
                finished=scoring.add,
            )
            seconds = perf_counter() - started
            scoring.wait()
        return groups, seconds


@contextmanager
def asking(run: StageRun, rewards: Sequence[Reward], reward_timeout: float) -> Iterator[Asking]:
    """The stage's policy and its rewards in memory."""
    policy = run.load_policy()
    engine = build_engine(run.recipe.engine, policy)
    with RewardSuite(with_models(rewards, run), reward_timeout) as suite:
        yield Asking(run, policy, engine, suite)


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
    with asking(run, rewards, reward_timeout) as asked:
        groups, seconds = asked.rewarded(asked.begun(prompts), answers, sampling)
    record_samples(run.samples, run.stage.name, 0, groups)
    return groups, seconds


def refuse_failures(groups: Sequence[Group], most: float, where: str) -> None:
    """Raises FailedSamplesError where a larger share than `most` of the answers failed."""
    failures = [sample.failure for group in groups for sample in group.samples if sample.failure]
    total = sum(len(group.samples) for group in groups)
    if len(failures) > most * total:
        raise FailedSamplesError(
            f"{len(failures)} of {total} answers could not be judged, more than max_failed_share = {most}; the first: "
            f"{failures[0]}; {where}"
        )
