"""The `reward-model` stage: learns to score answers as they were judged. The same loop, another head."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tutelage.algorithms.reward_losses import RewardLoss, build_reward_loss
from tutelage.config import Recipe, RewardModelStage
from tutelage.data.packaged import rater_agreement
from tutelage.data.packing import pack
from tutelage.data.preferences import Judged
from tutelage.models import RewardModel, context_length
from tutelage.rollouts import places_of_step
from tutelage.stages.context import Result, StageRun
from tutelage.stages.judged import (
    agreement_of,
    at_the_end,
    load_judged,
    refuse_outside,
    refuse_ties,
    rows_of_prompts,
    score_rows,
)
from tutelage.stages.labelled import names_stage
from tutelage.training import State, fit, update
from tutelage.types import Batch, Loss

_SCALED_ON = 1000  # prompts of the training set whose scores give the mean and the deviation


@dataclass(frozen=True, slots=True)
class RewardModelPlan:
    """The stage with everything resolved that can be known before a weight is loaded."""

    stage: RewardModelStage
    loss: RewardLoss
    judged: Sequence[Judged]
    test: Sequence[Judged]

    @property
    def total_steps(self) -> int:
        """As declared, or as many as the epochs give; the last step of an epoch reaches into the next one."""
        return self.stage.steps or math.ceil(len(self.judged) * self.stage.epochs / self.stage.prompts_per_step)


def plan_reward_model(stage: RewardModelStage, recipe: Recipe, must_reach: bool) -> RewardModelPlan:
    """Resolves and checks the stage. Raises ConfigError or DataError with the remedy."""
    loss = build_reward_loss(stage.loss, f"{stage.name}.loss")
    made_here = names_stage(stage.source, recipe, stage.name, f"{stage.name}.source")
    judged = () if made_here else load_judged(stage.source, f"{stage.name}.source", must_reach)
    test = () if stage.test is None else load_judged(stage.test, f"{stage.name}.test", must_reach)
    where = f"{stage.name}.source"
    if loss.compares:
        refuse_ties(judged, where, "loss = { type = 'regression' }")
    if loss.probabilities:
        refuse_outside(judged, where, "loss = { type = 'regression' }")
    return RewardModelPlan(stage, loss, judged, test)


def run_reward_model(plan: RewardModelPlan, run: StageRun) -> Result:
    """Trains the reward model, sets its scale, asks it about the held-out answers, and saves it."""
    model = run.load_reward_model()
    task = RewardModelTask(plan, run, model)
    state = run.begin(State(model, plan.stage.optimizer, rates={model.head: plan.stage.head_lr}))
    fit(task, state, run.checkpoints, plan.stage.checkpoints, run.record, run.offsets)
    result: Result = {"type": "reward-model", "steps": state.step}
    if plan.test:  # before the scores are scaled: until then their differences are log-odds
        result["agreement"] = _agreement(plan, model)
    if plan.stage.normalise:
        scores = score_rows(
            model, [row for rows in task.rows[:_SCALED_ON] for row in rows], plan.stage.tokens_per_microbatch
        )
        deviation, mean = torch.std_mean(torch.tensor(scores))
        if deviation > 0:
            model.rescale(mean.item(), deviation.item())
    return {**result, "reward_model": run.save_model(model.save)}


def _agreement(plan: RewardModelPlan, model: RewardModel) -> dict[str, Any]:
    context = context_length(model.body.module.config)
    held_out = rows_of_prompts(plan.stage, plan.test, model.tokenizer, context, "test")
    scores = score_rows(model, [row for rows in held_out for row in rows], plan.stage.tokens_per_microbatch)
    found = agreement_of(scores, held_out, plan.test)
    people = rater_agreement(plan.stage.test)  # what a model can be measured by: how far people agree among themselves
    return found if people is None else {**found, "people": people}


class RewardModelTask:
    """What `fit` trains: a reward model on judged answers."""

    def __init__(self, plan: RewardModelPlan, run: StageRun, model: RewardModel) -> None:
        self.plan, self.run, self.stage = plan, run, plan.stage
        self.total_steps = plan.total_steps
        context = context_length(model.body.module.config)
        self.rows = rows_of_prompts(plan.stage, plan.judged, model.tokenizer, context, "source")
        self._metrics: dict[str, float] = {}

    def minibatches(self, state: State) -> Iterator[Sequence[Batch]]:
        """One update a step, of the prompts whose turn it is, each with all of its answers."""
        places = places_of_step(len(self.rows), state.step, self.stage.prompts_per_step, self.run.seed)
        rows = [at_the_end(row) for place in places for row in self.rows[place]]
        self._metrics = {"tokens": float(sum(len(row.tokens) for row in rows))}
        yield pack(rows, self.stage.tokens_per_microbatch, whole_groups=True)

    def update(self, state: State, batches: Sequence[Batch]) -> Mapping[str, float]:
        return update(state, batches, self.loss, self.total_steps)

    def loss(self, model: RewardModel, batch: Batch) -> Sequence[Loss]:
        scores_A = model.scores(batch)
        judged_A, group_A = (batch.fields[name].to(scores_A.device) for name in ("judged", "group"))
        return (self.plan.loss.loss(scores_A, judged_A, group_A.long()),)

    def after_step(self, state: State, metrics: Mapping[str, float]) -> None:
        pass

    def metrics(self) -> Mapping[str, float]:
        return self._metrics
