"""The `predict` stage: how often is the next token of a corpus the likeliest, at once or after a thought?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tutelage.config import PredictStage, Recipe, Thought
from tutelage.engines import build_engine
from tutelage.environments import Corpus
from tutelage.errors import ConfigError
from tutelage.evaluation import summarise
from tutelage.models import Policy
from tutelage.rollouts import record_samples, roll_out
from tutelage.seeds import derive_seed
from tutelage.stages.context import Result, StageRun, environment_before, prompts_of
from tutelage.stages.thoughts import check_contexts, check_thoughts, predicted, rows_after_thoughts, rows_of_contexts
from tutelage.types import Group, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class PredictPlan:
    """The stage with everything resolved that can be known before a weight is loaded."""

    stage: PredictStage
    environment: Corpus
    prompts: Sequence[Prompt]


def plan_predict(stage: PredictStage, recipe: Recipe, must_reach: bool) -> PredictPlan:
    """Resolves and checks the stage. Raises ConfigError or DataError with the remedy."""
    environment = environment_before(recipe, stage.environment, stage.name)
    if not isinstance(environment, Corpus):
        raise ConfigError(
            f"{stage.name}.environment: next tokens are those of an environment of the type 'corpus', and "
            f"'{stage.environment}' is '{environment.type}'; take an evaluate stage"
        )
    return PredictPlan(stage, environment, prompts_of(environment, stage.split, must_reach)[: stage.questions])


def check_predictions(plan: PredictPlan, tokenizer: PreTrainedTokenizerBase, context: int) -> None:
    """Raises DataError where the positions are another tokenizer's, or do not fit into the model's context."""
    stage, thought = plan.stage, plan.stage.thought
    check_contexts(tokenizer, plan.prompts, 1, context, stage.name)
    if thought is not None:
        where = f"{stage.name}.thought"
        check_thoughts(tokenizer, plan.prompts, thought.sampling, thought.closing, 1, context, where)


def run_predict(plan: PredictPlan, run: StageRun) -> Result:
    """Predicts the next token at every position, and reports how often the likeliest one was right, and its price."""
    stage, budget = plan.stage, plan.stage.tokens_per_microbatch
    run.cut_back(run.start)
    policy = run.load_policy()
    if stage.thought is None:
        told = [[one] for one in predicted(policy, rows_of_contexts(plan.prompts, 1), budget)]
    else:
        groups = _thoughts(plan, stage.thought, run, policy)
        rows = iter(predicted(policy, rows_after_thoughts(policy.tokenizer, groups, stage.thought.closing, 1), budget))
        told = [[next(rows) for _ in group.samples] for group in groups]
        _record(groups, told, run)
    names = [prompt.id for prompt in plan.prompts]
    scores = {name: [float(right) for _, right in some] for name, some in zip(names, told, strict=True)}
    nats = {name: [-logprob for logprob, _ in some] for name, some in zip(names, told, strict=True)}
    nats_of_all, above = summarise(nats).numbers, _above(plan, scores)
    return {
        "type": "predict",
        "environment": stage.environment,
        "split": stage.split,
        "model": run.model.name,
        "questions": len(plan.prompts),
        "scores": scores,
        "summary": {"score": summarise(scores).numbers, "nats": nats_of_all},
        "above": above,
        "components": {
            "nats": nats_of_all["mean"],
            **{f"accuracy above {level}": numbers["mean"] for level, numbers in above.items()},
        },
    }


def _above(plan: PredictPlan, scores: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """The accuracy of positions with an entropy above each level that any has."""
    found: dict[str, dict[str, Any]] = {}
    for level in plan.stage.levels:
        own = {prompt.id: scores[prompt.id] for prompt in plan.prompts if prompt.meta["entropy"] > level}
        if own:
            found[f"{level:g}"] = summarise(own).numbers
    return found


def _thoughts(plan: PredictPlan, thought: Thought, run: StageRun, policy: Policy) -> list[Group]:
    wanted = len(plan.prompts) * thought.samples
    return roll_out(
        build_engine(run.recipe.engine, policy),
        policy.tokenizer,
        plan.prompts,
        thought.samples,
        thought.sampling,
        derive_seed(run.seed, "thoughts"),
        watch=lambda done, _: run.progress.progress(done, wanted, "thoughts"),
    )


def _record(groups: Sequence[Group], told: Sequence[Sequence[tuple[float, bool]]], run: StageRun) -> None:
    """Every thought on record, with whether the prediction after it was right."""
    for group, some in zip(groups, told, strict=True):
        for sample, (logprob, right) in zip(group.samples, some, strict=True):
            sample.reward, sample.rewards = float(right), {"right": float(right), "logprob": logprob}
    record_samples(run.samples, run.stage.name, 0, groups)
