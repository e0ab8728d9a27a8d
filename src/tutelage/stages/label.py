"""The `label` stage: the policy's own answers, judged, as data for the stages after it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.config import LabelStage, Recipe
from tutelage.errors import FailedSamplesError
from tutelage.rewards import Reward
from tutelage.stages.asking import ask, plan_questions
from tutelage.stages.context import Result, StageRun
from tutelage.types import Group, Prompt


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """The stage with everything resolved that can be known before a weight is loaded."""

    stage: LabelStage
    rewards: tuple[Reward, ...]
    prompts: Sequence[Prompt]


def plan_label(stage: LabelStage, recipe: Recipe, must_reach: bool) -> LabelPlan:
    """Resolves and checks the stage. Raises ConfigError or DataError with the remedy."""
    return LabelPlan(stage, *plan_questions(stage, recipe, must_reach))


def run_label(plan: LabelPlan, run: StageRun) -> Result:
    """Samples and judges, and writes what came of it as judged answers, whole or not at all."""
    stage = plan.stage
    groups, _ = ask(run, plan.prompts, stage.answers, stage.sampling, plan.rewards, stage.reward_timeout)
    _refuse_failures(groups, stage)
    path = run.folder / "judged.jsonl"
    beside = run.folder / ".judged.partial"
    beside.write_text("".join(json.dumps(row) + "\n" for row in map(_row, groups) if row["answers"]), encoding="utf-8")
    beside.replace(path)
    rewards = [sample.reward for group in groups for sample in group.samples if sample.reward is not None]
    return {
        "type": "label",
        "prompts": len(groups),
        "answers": len(rewards),
        "reward": sum(rewards) / max(1, len(rewards)),
        "judged": str(path.relative_to(run.folder.parent.parent)),
    }


def _row(group: Group) -> dict[str, Any]:
    """A prompt with the answers that could be judged."""
    prompt, judged = group.prompt, [sample for sample in group.samples if sample.reward is not None and sample.text]
    asked = {"prompt": prompt.text} if prompt.text is not None else {"messages": _turns(prompt)}
    answers = {"answers": [sample.text for sample in judged], "scores": [sample.reward for sample in judged]}
    return {"id": prompt.id, **asked, **answers}


def _turns(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in prompt.messages]


def _refuse_failures(groups: Sequence[Group], stage: LabelStage) -> None:
    failures = [sample.failure for group in groups for sample in group.samples if sample.failure]
    total = sum(len(group.samples) for group in groups)
    if len(failures) > stage.max_failed_share * total:
        raise FailedSamplesError(
            f"{len(failures)} of {total} answers could not be judged, more than max_failed_share = "
            f"{stage.max_failed_share}; the first: {failures[0]}; all are in samples.jsonl"
        )
