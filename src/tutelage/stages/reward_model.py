"""The `reward-model` stage: learns to score answers as they were judged. The same loop, another head."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from tutelage.algorithms.reward_losses import RewardLoss, build_reward_loss
from tutelage.config import LabelStage, Recipe, RewardModelStage, Stage, condition
from tutelage.data.packaged import rater_agreement
from tutelage.data.packing import Row, pack
from tutelage.data.preferences import Judged
from tutelage.errors import ConfigError
from tutelage.evaluation import step_agreement
from tutelage.models import RewardModel, context_length
from tutelage.rollouts import places_of_step
from tutelage.stages.context import Result, StageRun
from tutelage.stages.judged import (
    agreement_of,
    are_steps,
    at_the_end,
    load_judged,
    refuse_outside,
    refuse_ties,
    rows_of_prompts,
    score_rows,
)
from tutelage.stages.labelled import maker
from tutelage.stages.steps import rows_of_steps, score_steps
from tutelage.training import State, update
from tutelage.types import Batch, Loss

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SCALED_ON = 1000  # prompts of the training set whose scores give the mean and the deviation


@dataclass(frozen=True, slots=True)
class RewardModelPlan:
    """The stage with everything resolved that can be known before a weight is loaded."""

    stage: RewardModelStage
    loss: RewardLoss
    judged: Sequence[Judged]
    test: Sequence[Judged]
    stepwise: bool = False  # are the steps of answers judged? Then it is a process reward model

    @property
    def total_steps(self) -> int:
        """As declared, or as many as the epochs give; the last step of an epoch reaches into the next one."""
        return self.stage.steps or math.ceil(len(self.judged) * self.stage.epochs / self.stage.prompts_per_step)

    def rows(self, key: Literal["source", "test"], tokenizer: PreTrainedTokenizerBase, context: int) -> list[list[Row]]:
        """The rows of each prompt's answers, with what a model scores as their actions. Raises DataError."""
        judged = self.judged if key == "source" else self.test
        if self.stepwise:
            return rows_of_steps(self.stage, judged, tokenizer, context, key)
        whole = rows_of_prompts(self.stage, judged, tokenizer, context, key)
        return [[at_the_end(row) for row in rows] for rows in whole]


def plan_reward_model(stage: RewardModelStage, recipe: Recipe, must_reach: bool) -> RewardModelPlan:
    """Resolves and checks the stage. Raises ConfigError or DataError with the remedy."""
    loss = build_reward_loss(stage.loss, f"{stage.name}.loss")
    where = f"{stage.name}.source"
    made = maker(stage.source, recipe, stage.name, where)
    judged = () if made else load_judged(stage.source, where, must_reach)
    test = () if stage.test is None else load_judged(stage.test, f"{stage.name}.test", must_reach)
    stepwise = _are_steps(stage, made, judged, test)
    if stepwise:
        _refuse_for_steps(stage, loss, made)
    elif (judged or made) and stage.separator != RewardModelStage.model_fields["separator"].default:
        raise ConfigError(f"{stage.name}.separator: whole answers were judged, not their steps; leave it out")
    if judged or made or test:
        _refuse_gates(stage, stepwise)
    if loss.compares:
        refuse_ties(judged, where, "loss = { type = 'regression' }")
    if loss.probabilities:
        refuse_outside(judged, where, "loss = { type = 'regression' }")
    return RewardModelPlan(stage, loss, judged, test, stepwise)


def _are_steps(stage: RewardModelStage, made: Stage | None, judged: Sequence[Judged], test: Sequence[Judged]) -> bool:
    """Are steps judged, in the source and in what is held out? False where neither can be reached now."""
    kinds: dict[str, bool] = {}
    if made is not None:
        kinds["source"] = isinstance(made, LabelStage) and made.steps is not None
    elif judged:
        kinds["source"] = are_steps(judged, f"{stage.name}.source")
    if test:
        kinds["test"] = are_steps(test, f"{stage.name}.test")
    if len(set(kinds.values())) > 1:
        steps, whole = sorted(kinds, key=lambda key: not kinds[key])
        raise ConfigError(f"{stage.name}.{steps}: steps were judged here, and whole answers in {whole}; take one kind")
    return True in kinds.values()


def _refuse_gates(stage: RewardModelStage, stepwise: bool) -> None:
    """Raises ConfigError for a gate on a figure that only the other kind of judgements has."""
    lacking, what = ("follows_length", "steps") if stepwise else ("first_error_f1", "whole answers")
    if any(condition(gate).figure == lacking for gate in stage.require):
        raise ConfigError(f"{stage.name}.require: {what} were judged, and of these there is no {lacking}; leave it out")


def _refuse_for_steps(stage: RewardModelStage, loss: RewardLoss, made: Stage | None) -> None:
    """Raises ConfigError for what makes no sense where steps were judged."""
    if loss.compares or not loss.probabilities:
        raise ConfigError(
            f"{stage.name}.loss: '{loss.type}' gives a step no probability of being right; set loss = {{ type = "
            "'outcome' }, which takes shares for labels too"
        )
    labels = made.steps if isinstance(made, LabelStage) else None
    if made and labels and labels.separator != stage.separator:
        raise ConfigError(
            f"{stage.name}.separator: stage '{made.name}' cuts steps at {labels.separator!r}, not at "
            f"{stage.separator!r}; give both the same"
        )


def run_reward_model(plan: RewardModelPlan, run: StageRun) -> Result:
    """Trains the reward model, sets its scale, asks it about the held-out answers, and saves it."""
    model = run.load_reward_model()
    model.separator = plan.stage.separator if plan.stepwise else None
    task = RewardModelTask(plan, run, model)
    state = run.begin(State(model, plan.stage.optimizer, rates={model.head: plan.stage.head_lr}))
    run.fit(task, state, plan.stage.checkpoints, plan.stage.guards)
    result: Result = {"type": "reward-model", "steps": state.step}
    if plan.test and plan.stepwise:
        result["step_agreement"] = _step_agreement(plan, model)
    elif plan.test:  # before the scores are scaled: until then their differences are log-odds
        result["agreement"] = _agreement(plan, model)
    if plan.stage.normalise and not plan.stepwise:
        scores = score_rows(
            model, [row for rows in task.rows[:_SCALED_ON] for row in rows], plan.stage.tokens_per_microbatch
        )
        deviation, mean = torch.std_mean(torch.tensor(scores))
        if deviation > 0:
            model.rescale(mean.item(), deviation.item())
    return {**result, "reward_model": run.save_model(model.save)}


def _agreement(plan: RewardModelPlan, model: RewardModel) -> dict[str, Any]:
    context = context_length(model.body.module.config)
    held_out = plan.rows("test", model.tokenizer, context)
    scores = score_rows(model, [row for rows in held_out for row in rows], plan.stage.tokens_per_microbatch)
    found = agreement_of(scores, held_out, plan.test)
    people = rater_agreement(plan.stage.test)  # what a model can be measured by: how far people agree among themselves
    return found if people is None else {**found, "people": people}


def _step_agreement(plan: RewardModelPlan, model: RewardModel) -> dict[str, Any]:
    context = context_length(model.body.module.config)
    rows = [row for rows in plan.rows("test", model.tokenizer, context) for row in rows]
    found = score_steps(model, rows, plan.stage.tokens_per_microbatch)
    labels = [cast("Sequence[float]", row.fields["judged"]) for row in rows]
    return step_agreement.report([step_agreement.Steps(*pair) for pair in zip(found, labels, strict=True)])


class RewardModelTask:
    """What `fit` trains: a reward model on judged answers."""

    def __init__(self, plan: RewardModelPlan, run: StageRun, model: RewardModel) -> None:
        self.plan, self.run, self.stage = plan, run, plan.stage
        self.total_steps = plan.total_steps
        context = context_length(model.body.module.config)
        self.rows = plan.rows("source", model.tokenizer, context)
        self._metrics: dict[str, float] = {}

    def minibatches(self, state: State) -> Iterator[Sequence[Batch]]:
        """One update a step, of the prompts whose turn it is, each with all of its answers."""
        places = places_of_step(len(self.rows), state.step, self.stage.prompts_per_step, self.run.seed)
        rows = [row for place in places for row in self.rows[place]]
        self._metrics = {"tokens": float(sum(len(row.tokens) for row in rows))}
        yield pack(rows, self.stage.tokens_per_microbatch, whole_groups=True)

    def update(self, state: State, batches: Sequence[Batch]) -> Mapping[str, float]:
        return update(state, batches, self.loss, self.total_steps)

    def loss(self, model: RewardModel, batch: Batch) -> Sequence[Loss]:
        scores_A = model.scores(batch)
        judged_A, group_A = (batch.fields[name].to(scores_A.device) for name in ("judged", "group"))
        loss = self.plan.loss.loss(scores_A, judged_A, group_A.long())
        return (replace(loss, terms={"the score": scores_A}),)

    def after_step(self, state: State, metrics: Mapping[str, float]) -> None:
        pass

    def metrics(self) -> Mapping[str, float]:
        return self._metrics
