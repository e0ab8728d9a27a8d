"""What an evaluation measures beside its score, by question, so that each has its interval and can be paired."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from tutelage.config import EvaluateStage, metric_parts, nearest
from tutelage.environments import Environment
from tutelage.errors import ConfigError, FailedSamplesError
from tutelage.evaluation import (
    Scores,
    best_at_n_scores,
    majority_at_k_scores,
    pass_at_k_scores,
    summarise,
)
from tutelage.rewards import Reward
from tutelage.rewards.answers import AnswerReward
from tutelage.rewards.camp import CampReward
from tutelage.types import Group, Sample

CAMP = "camp"


def with_camps(stage: EvaluateStage, environment: Environment, rewards: Sequence[Reward]) -> tuple[Reward, ...]:
    """The rewards that the stage's metrics need: its own, and what tells which answers are the same.

    Raises:
        ConfigError: a metric names a reward that the stage has not, or answers cannot be compared.
    """
    labels = [reward.label for reward in rewards]
    for metric in stage.metrics:
        kind, _, by = metric_parts(metric)
        if kind == "best" and by not in labels:
            raise ConfigError(
                f"{stage.name}.metrics: '{metric}' chooses by a reward of the stage: {nearest(by, labels)}"
            )
    if not any(metric.startswith("maj@") for metric in stage.metrics):
        return tuple(rewards)
    scorer = environment.scorer()
    if not isinstance(scorer, AnswerReward):
        raise ConfigError(
            f"{stage.name}.metrics: maj@k votes on answers that can be compared, and the score '{scorer.type}' of "
            f"'{stage.environment}' reads none; it takes a scorer such as numeric, exact or maths"
        )
    if CAMP in labels:
        raise ConfigError(f"{stage.name}.rewards: '{CAMP}' is what maj@k counts answers by; name that reward otherwise")
    return (*rewards, CampReward(by=scorer))


def measured(
    stage: EvaluateStage, groups: Sequence[Group], labels: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Scores]]:
    """Each measure's mean with its interval, and by question what the score's components and metrics are made of.

    Args:
        labels: the names of the rewards, as they stand in the samples.
    """
    scores = _of(groups, lambda sample: sample.reward)
    by_question: dict[str, Scores] = {label: _of_reward(groups, label) for label in labels if label != CAMP}
    for metric in stage.metrics:
        kind, k, by = metric_parts(metric)
        if kind == "pass":
            by_question[metric] = pass_at_k_scores(scores, k, stage.right_from)
        elif kind == "maj":
            by_question[metric] = majority_at_k_scores(scores, _of_reward(groups, CAMP), k)
        else:
            by_question[metric] = best_at_n_scores(scores, by_question[by], k)
    shape = {
        "length": _of(groups, lambda sample: float(len(sample.tokens))),
        "truncated": _of(groups, lambda sample: float(sample.finish == "length")),
    }
    shares = [metric for metric in stage.metrics if metric_parts(metric)[0] in ("pass", "maj")]
    return _summaries({**shape, **by_question}, shares), by_question


def _summaries(measures: Mapping[str, Scores], shares: Collection[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, scores in measures.items():
        try:
            found[name] = summarise(scores, share=name in shares).numbers
        except FailedSamplesError:  # none could be measured: for some prompts only, or all failed
            continue
    return found


def _of(groups: Sequence[Group], value: Callable[[Sample], float | None]) -> dict[str, list[float | None]]:
    return {group.prompt.id: [value(sample) for sample in group.samples] for group in groups}


def _of_reward(groups: Sequence[Group], label: str) -> dict[str, list[float | None]]:
    return _of(groups, lambda sample: sample.rewards.get(label))
