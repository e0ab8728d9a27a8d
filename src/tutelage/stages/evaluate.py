"""The `evaluate` stage: the model answers an environment's questions; scores come with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.config import EvaluateStage, Recipe
from tutelage.environments import Environment, Game, environment_of
from tutelage.evaluation import Scores, summarise
from tutelage.rewards import Reward
from tutelage.stages.asking import ask, plan_questions, refuse_failures
from tutelage.stages.context import Result, StageRun
from tutelage.stages.match import check_match, payoffs_by_role, payoffs_of, play_match
from tutelage.stages.measures import CAMP, measured, with_camps
from tutelage.types import Group, Prompt, Sample


@dataclass(frozen=True, slots=True)
class EvaluatePlan:
    """The stage with everything resolved that can be known before a weight is loaded."""

    stage: EvaluateStage
    environment: Environment
    rewards: tuple[Reward, ...]
    prompts: Sequence[Prompt]
    game: Game | None = None  # played against the stage's opponent, instead of asking prompts

    @property
    def games(self) -> int:
        """How many games are played, where one is."""
        return self.stage.questions or 200


def plan_evaluate(stage: EvaluateStage, recipe: Recipe, must_reach: bool) -> EvaluatePlan:
    """Resolves and checks the stage. Raises ConfigError or DataError with the remedy."""
    game = check_match(stage, environment_of(recipe, stage.environment))
    if game is not None:
        return EvaluatePlan(stage, game, (), game.examples(), game)
    environment, rewards, prompts = plan_questions(stage, recipe, must_reach)
    return EvaluatePlan(stage, environment, with_camps(stage, environment, rewards), prompts)


def run_evaluate(plan: EvaluatePlan, run: StageRun) -> Result:
    """Asks every question, or plays every game, and reports what came back."""
    stage = plan.stage
    if plan.game is not None:
        tables, groups, seconds = play_match(run, plan.game, plan.games, stage)
        scores, labels = payoffs_of(tables), ["legal"]
        match = {"opponent": stage.opponent, "roles": payoffs_by_role(scores)}
    else:
        groups, seconds = ask(run, plan.prompts, stage.samples, stage.sampling, plan.rewards, stage.reward_timeout)
        refuse_failures(groups, stage.max_failed_share, "all are in samples.jsonl")
        scores = {group.prompt.id: [sample.reward for sample in group.samples] for group in groups}
        labels, match = [reward.label for reward in plan.rewards], {"parts": _parts(groups)}
        match["metrics"], match["by_question"] = measured(stage, groups, labels)
        labels = [label for label in labels if label != CAMP]
    samples = [sample for group in groups for sample in group.samples]
    result = _result(plan, run, scores, samples, labels, seconds) | match
    result["components"] |= {f"as {role}": numbers["mean"] for role, numbers in match.get("roles", {}).items()}
    return result


def _result(
    plan: EvaluatePlan, run: StageRun, scores: Scores, samples: Sequence[Sample], labels: Sequence[str], seconds: float
) -> Result:
    stage = plan.stage
    summary = summarise(scores)
    components = {label: [s.rewards[label] for s in samples if label in s.rewards] for label in labels}
    tokens = sum(len(sample.tokens) for sample in samples)
    return {
        "type": "evaluate",
        "stage": stage.name,
        "environment": stage.environment,
        "split": stage.split,
        "model": run.model.name,
        "greedy": stage.sampling.greedy,
        "questions": len(scores),
        "samples": stage.samples,
        "scores": scores,
        "summary": {
            "score": summary.numbers,
            "failed": summary.failed,
            "length": tokens / len(samples),
            "truncated": sum(sample.finish == "length" for sample in samples) / len(samples),
        },
        "components": {label: sum(values) / len(values) for label, values in components.items() if values},
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
    }


def _parts(groups: Sequence[Group]) -> dict[str, Any]:
    """The score of each part of a mixture, where one of its samples was scored."""
    found: dict[str, Any] = {}
    for part in sorted({group.prompt.part for group in groups if group.prompt.part is not None}):
        own = [group for group in groups if group.prompt.part == part]
        scores = {group.prompt.id: [sample.reward for sample in group.samples] for group in own}
        if any(score is not None for given in scores.values() for score in given):
            found[part] = summarise(scores).numbers
    return found
