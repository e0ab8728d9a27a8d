"""The `rejection` stage: many answers to each prompt, of which rules choose what is worth imitating."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from tutelage.config import BASE, Recipe, RejectionStage
from tutelage.environments import Environment
from tutelage.errors import NothingToLearnError, RunFolderError
from tutelage.rewards import Reward
from tutelage.rewards.chat_server import require_client, require_key
from tutelage.rollouts import record_samples
from tutelage.seeds import derive_seed
from tutelage.stages.asking import asking, plan_questions, refuse_failures
from tutelage.stages.choosing import Answer, balanced, choose, success_rate
from tutelage.stages.context import Result, StageRun
from tutelage.stages.labelled import CONVERSATIONS
from tutelage.stages.teacher import teaching
from tutelage.types import Group, Prompt

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RejectionPlan:
    """The stage with everything resolved that can be known before a weight is loaded."""

    stage: RejectionStage
    environment: Environment
    rewards: tuple[Reward, ...]
    prompts: Sequence[Prompt]


def plan_rejection(stage: RejectionStage, recipe: Recipe, must_reach: bool) -> RejectionPlan:
    """Resolves and checks the stage. Raises ConfigError or DataError with the remedy."""
    if stage.by is not None:
        require_client(f"{stage.name}.by: asking a teacher")
        require_key(stage.by.key_variable, f"{stage.name}.by")
    return RejectionPlan(stage, *plan_questions(stage, recipe, must_reach))


def run_rejection(plan: RejectionPlan, run: StageRun) -> Result:
    """Samples and rewards portion by portion, chooses, and writes the chosen as conversations, whole or not at all."""
    stage = plan.stage
    answers = _answers(plan, run)
    rates = [success_rate(own, stage.least) for own in answers]
    chosen = [choose(own, stage) for own in answers]
    left_out = _left_out(plan, run, rates, chosen)
    origin = _origin(plan, run)
    rows = [
        _row(prompt, answer, rate, origin)
        for prompt, own, rate in zip(plan.prompts, chosen, rates, strict=True)
        if prompt.id not in left_out
        for answer in own
    ]
    if not rows:
        raise NothingToLearnError(
            f"{stage.name}: none of {len(answers) * stage.answers} answers was chosen by {list(stage.choose)}; all are "
            "in samples.jsonl. Take easier prompts, more answers, or other rules"
        )
    path = run.folder / CONVERSATIONS
    beside = run.folder / ".conversations.partial"
    beside.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    beside.replace(path)
    rewards = [answer.reward for own in answers for answer in own if answer.reward is not None]
    return {
        "type": "rejection",
        "prompts": len(answers),
        "answers": len(answers) * stage.answers,
        "kept": len(rows),
        "none": sum(not own for own in chosen),
        "balanced_out": len(left_out),
        "reward": fmean(rewards),
        "success": fmean(rate for rate in rates if rate is not None),
        "conversations": str(path.relative_to(run.folder.parent.parent)),
    }


def _answers(plan: RejectionPlan, run: StageRun) -> list[list[Answer]]:
    """All answers to each prompt, out of the record of samples: whole portions that a killed run recorded stand."""
    stage, prompts = plan.stage, plan.prompts
    recorded = list(_recorded(plan, run))
    done = len(recorded) if len(recorded) == len(prompts) else len(recorded) // stage.portion * stage.portion
    run.cut_back({**run.start, "samples": recorded[done - 1][1]} if done else run.start)
    if done:
        run.progress.note(f"goes on after {done} of {len(prompts)} prompts")
    if done < len(prompts):
        with _answering(plan, run) as answered:
            for begin in range(done, len(prompts), stage.portion):
                groups = answered(prompts[begin : begin + stage.portion])
                refuse_failures(groups, stage.max_failed_share, "this portion is not kept, and asked again on resume")
                record_samples(run.samples, stage.name, 0, groups)
    answers = [own for own, _ in _recorded(plan, run)]
    if len(answers) < len(prompts):
        raise RunFolderError(f"{run.samples.path}: lines are missing; make room on the disk, then `tutelage resume`")
    return answers


@contextmanager
def _answering(plan: RejectionPlan, run: StageRun) -> Iterator[Callable[[Sequence[Prompt]], list[Group]]]:
    """Whoever answers, in memory: prompts in, rewarded groups out."""
    stage = plan.stage
    if stage.by is not None:
        with teaching(run, stage, stage.by, plan.rewards) as taught:
            yield taught
        return
    with asking(run, plan.rewards, stage.reward_timeout) as asked:
        yield lambda prompts: asked.rewarded(asked.begun(prompts), stage.answers, stage.sampling)[0]


def _recorded(plan: RejectionPlan, run: StageRun) -> Iterator[tuple[list[Answer], int]]:
    """Of each prompt in turn the answers in the record, and where their lines end; as far as it has them all."""
    with run.samples.path.open("rb") as log:
        log.seek(run.start["samples"])
        for prompt in plan.prompts:
            rows = [_parsed(log.readline()) for _ in range(plan.stage.answers)]
            if [(row.get("prompt_id"), row.get("index")) for row in rows] != [
                (prompt.id, index) for index in range(plan.stage.answers)
            ]:
                return
            yield [_answer(row) for row in rows], log.tell()


def _parsed(line: bytes) -> Row:
    try:
        return json.loads(line) if line.endswith(b"\n") else {}
    except ValueError:  # a kill tore it
        return {}


def _answer(row: Row) -> Answer:
    cut = row["finish"] == "length"
    return Answer(row["index"], row["text"], row["tokens"], cut, row["reward"], row["rewards"], row["version"])


def _left_out(
    plan: RejectionPlan, run: StageRun, rates: Sequence[float | None], chosen: Sequence[Sequence[Answer]]
) -> set[str]:
    """The prompts that are left out for the balance of difficulties."""
    stage = plan.stage
    if stage.balance is None:
        return set()
    found = {
        prompt.id: rate
        for prompt, rate, own in zip(plan.prompts, rates, chosen, strict=True)
        if own and rate is not None
    }
    return found.keys() - balanced(found, stage.balance, lambda name: derive_seed(run.seed, "balance", name))


def _origin(plan: RejectionPlan, run: StageRun) -> dict[str, Any]:
    """Who answered."""
    stage = plan.stage
    if stage.by is not None:
        return {"stage": stage.name, "model": stage.by.model}
    name = run.recipe.begins(stage) or BASE
    return {
        "stage": stage.name,
        "model": run.recipe.model if name == BASE else name,
        **({"digest": run.inputs[name]} if name in run.inputs else {}),
    }


def _row(prompt: Prompt, answer: Answer, rate: float | None, origin: Mapping[str, Any]) -> dict[str, Any]:
    """A conversation as `jsonl` sources read it, with all that is known of where it comes from."""
    turns = [{"role": message.role, "content": message.content} for message in prompt.messages]
    said = {"messages": [*turns, {"role": "assistant", "content": answer.text}]}
    shown = said if turns else {"prompt": prompt.text, "completion": answer.text}
    came = {
        **origin,
        "version": answer.version,
        "sample": answer.index,
        "reward": answer.reward,
        "rewards": answer.rewards,
        "success_rate": rate,
        **({} if prompt.part is None else {"part": prompt.part}),
    }
    return {"id": f"{prompt.id}#{answer.index}", **shown, "from": came}
