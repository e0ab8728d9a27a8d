"""The `preference` stage: DPO and its kin on judged answers. What it trains is in preference_task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tutelage.algorithms import PreferenceLoss, build_preference_loss
from tutelage.config import PreferenceStage, Recipe
from tutelage.data.packing import Row
from tutelage.data.preferences import Judged
from tutelage.errors import ConfigError, RunFolderError
from tutelage.models import Policy, context_length
from tutelage.stages.context import Result, StageRun
from tutelage.stages.judged import agreement_of, are_steps, load_judged, refuse_outside, refuse_ties, rows_of_prompts
from tutelage.stages.labelled import labels_whole_answers
from tutelage.stages.preference_task import PreferenceTask, answers_of, mismatched, score_answers, with_field
from tutelage.training import State


@dataclass(frozen=True, slots=True)
class PreferencePlan:
    """The stage with everything resolved that can be known before a weight is loaded."""

    stage: PreferenceStage
    loss: PreferenceLoss
    judged: Sequence[Judged]
    test: Sequence[Judged]

    @property
    def total_steps(self) -> int:
        """As declared, or as many as the epochs give; the last step of an epoch reaches into the next one."""
        return self.stage.steps or math.ceil(len(self.judged) * self.stage.epochs / self.stage.prompts_per_step)


def plan_preference(stage: PreferenceStage, recipe: Recipe, must_reach: bool) -> PreferencePlan:
    """Resolves and checks the stage. Raises ConfigError or DataError with the remedy."""
    loss = build_preference_loss(stage.loss, f"{stage.name}.loss")
    made_here = labels_whole_answers(stage.source, recipe, stage.name, f"{stage.name}.source")
    judged = () if made_here else load_judged(stage.source, f"{stage.name}.source", must_reach)
    test = () if stage.test is None else load_judged(stage.test, f"{stage.name}.test", must_reach)
    for key, given in (("source", judged), ("test", test)):
        if are_steps(given, f"{stage.name}.{key}"):
            raise ConfigError(
                f"{stage.name}.{key}: holds the steps of answers, and '{loss.type}' learns from whole ones; steps are "
                "for a reward-model stage"
            )
    if loss.paired:
        refuse_ties(judged, f"{stage.name}.source", "loss = { type = 'kto' }")
    elif stage.good_above is None:
        refuse_outside(judged, f"{stage.name}.source", "a loss of pairs, or set good_above,")
    if loss.paired and stage.good_above is not None:
        raise ConfigError(
            f"{stage.name}.good_above: '{loss.type}' compares answers and reads no threshold; leave it out"
        )
    return PreferencePlan(stage, loss, judged, test)


def run_preference(plan: PreferencePlan, run: StageRun) -> Result:
    """Trains the policy on the judged answers, asks it about the held-out ones, and saves it."""
    stage, policy = plan.stage, run.load_policy()
    context = context_length(policy.module.config)
    rows = rows_of_prompts(stage, plan.judged, policy.tokenizer, context, "source")
    held_out = rows_of_prompts(stage, plan.test, policy.tokenizer, context, "test")
    others = mismatched(rows, min(context, stage.tokens_per_microbatch)) if plan.loss.needs_mismatched else []
    if plan.loss.needs_reference:  # the policy is the reference still: no second model is ever held
        sets = {"source": rows, "test": held_out, "others": others}
        reference = _reference(run, policy, sets, stage.tokens_per_microbatch)
        rows, held_out, others = (with_field(sets[name], "reference", reference[name]) for name in sets)
    task = PreferenceTask(plan.stage, plan.loss, run.seed, rows, others, plan.total_steps)
    state = run.begin(State(policy, stage.optimizer, dials=plan.loss.dials))
    run.fit(task, state, stage.checkpoints, stage.guards)
    result: Result = {"type": "preference", "steps": state.step}
    if plan.test:
        result["agreement"] = _agreement(plan, run, policy, held_out)
    return {**result, "saved": run.save_model(policy.save)}


def _reference(
    run: StageRun, policy: Policy, sets: dict[str, list[list[Row]]], tokens_per_microbatch: int
) -> dict[str, Tensor]:
    """The answers' log-probabilities under the policy as it begins: computed once, and kept for a resumed run."""
    path: Path = run.folder / "reference.safetensors"
    if path.is_file():
        return load_file(path)
    run.progress.note("scoring the answers once by the reference")
    scores = {
        name: _watched(run, policy, [row for prompt in rows for row in prompt], tokens_per_microbatch)
        for name, rows in sets.items()
    }
    beside = path.with_name(".reference.partial")
    try:
        save_file(scores, beside)
        beside.replace(path)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written: {error.strerror}; make room") from error
    return scores


def _watched(run: StageRun, policy: Policy, rows: Sequence[Row], tokens_per_microbatch: int) -> Tensor:
    """[B] log-probability of each answer, counted on the display."""
    return score_answers(
        policy, rows, tokens_per_microbatch, lambda done: run.progress.progress(done, len(rows), "answers scored")
    )


@torch.no_grad()
def _agreement(plan: PreferencePlan, run: StageRun, policy: Policy, rows: Sequence[Sequence[Row]]) -> dict[str, Any]:
    """How the implicit rewards of the held-out answers agree with the judgements."""
    flat = [row for prompt in rows for row in prompt]
    logprobs_B = _watched(run, policy, flat, plan.stage.tokens_per_microbatch)
    rewards_B = plan.loss.rewards(answers_of(flat, logprobs_B, plan.loss, plan.stage.good_above))
    return agreement_of(rewards_B.tolist(), rows, plan.test)
