"""The `label` stage: the policy's own answers, or their steps, judged: data for the stages after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tutelage.config import LabelStage, Recipe, StepLabels
from tutelage.data.preferences import Judged
from tutelage.environments import Environment
from tutelage.errors import ConfigError
from tutelage.rewards import Reward
from tutelage.rollouts import record_samples
from tutelage.stages.asking import ask, asking, plan_questions, refuse_failures
from tutelage.stages.context import Result, StageRun
from tutelage.stages.labelled import write_labels
from tutelage.stages.step_labels import label_steps
from tutelage.types import Group, Prompt


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """The stage with everything resolved that can be known before a weight is loaded."""

    stage: LabelStage
    environment: Environment
    rewards: tuple[Reward, ...]
    prompts: Sequence[Prompt]


def plan_label(stage: LabelStage, recipe: Recipe, must_reach: bool) -> LabelPlan:
    """Resolves and checks the stage. Raises ConfigError or DataError with the remedy."""
    if stage.steps is not None and stage.sampling.greedy:
        raise ConfigError(
            f"{stage.name}.sampling.temperature: 0 goes on in one way only, so a step's share of right answers would "
            "be 0 or 1; use 1.0"
        )
    return LabelPlan(stage, *plan_questions(stage, recipe, must_reach))


def run_label(plan: LabelPlan, run: StageRun) -> Result:
    """Samples and judges, and writes what came of it as judged answers, whole or not at all."""
    if plan.stage.steps is not None:
        return _label_steps(plan, run, plan.stage.steps)
    stage = plan.stage
    groups, _ = ask(run, plan.prompts, stage.answers, stage.sampling, plan.rewards, stage.reward_timeout)
    refuse_failures(groups, stage.max_failed_share, "all are in samples.jsonl")
    return _result(groups, write_labels(run, _judged(groups)))


def _label_steps(plan: LabelPlan, run: StageRun, settings: StepLabels) -> Result:
    stage = plan.stage
    run.cut_back(run.start)
    with asking(run, plan.rewards, stage.reward_timeout) as asked:
        groups, _ = asked.rewarded(asked.begun(plan.prompts), stage.answers, stage.sampling)
        stepped, continued = label_steps(asked, groups, settings, stage.sampling)
    record_samples(run.samples, stage.name, 0, groups)
    record_samples(run.samples, f"{stage.name}: continued", 0, continued)
    refuse_failures([*groups, *continued], stage.max_failed_share, "all are in samples.jsonl")
    judged = [data for one in stepped if (data := one.judged) is not None]
    labels = [label for one in judged for label in one.scores]
    told = {"steps": len(labels), "right": sum(labels) / max(1, len(labels))}
    return {**_result(groups, write_labels(run, judged)), "answers": len(judged), **told}


def _result(groups: Sequence[Group], judged: str) -> Result:
    rewards = [sample.reward for group in groups for sample in group.samples if sample.reward is not None]
    return {
        "type": "label",
        "prompts": len(groups),
        "answers": len(rewards),
        "reward": sum(rewards) / max(1, len(rewards)),
        "judged": judged,
    }


def _judged(groups: Sequence[Group]) -> Iterator[Judged]:
    """Each prompt with the answers that could be judged, where there is one."""
    for group in groups:
        judged = [(sample.text, sample.reward) for sample in group.samples if sample.reward is not None and sample.text]
        if judged:
            answers, scores = zip(*judged, strict=True)
            yield Judged(group.prompt, answers, scores)
