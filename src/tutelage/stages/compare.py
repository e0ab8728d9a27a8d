"""The `compare` stage: models answer the same prompts, judges say whose answers are better, and by how much."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tutelage.config import CompareStage, Contestant, Recipe
from tutelage.data.packing import Row, pack
from tutelage.engines import build_engine
from tutelage.environments import Environment
from tutelage.evaluation import compare, corrected, summarise
from tutelage.functional.best_of import best_of_n_kl
from tutelage.models import Policy
from tutelage.rewards import Reward, RewardSuite
from tutelage.rollouts import record_samples, roll_out
from tutelage.seeds import derive_seed
from tutelage.stages.asking import plan_questions, refuse_failures
from tutelage.stages.context import Result, StageRun
from tutelage.stages.model_rewards import with_models
from tutelage.stages.named_models import refuse_unknown_models
from tutelage.stages.steps import score_answers
from tutelage.types import Group, Prompt

Scores = dict[str, list[float | None]]  # of each prompt, its samples'

_PORTION = 8  # prompts whose answers are scored between two words of progress


@dataclass(frozen=True, slots=True)
class ComparePlan:
    """The stage with everything resolved that can be known before a weight is loaded."""

    stage: CompareStage
    environment: Environment
    rewards: tuple[Reward, ...]
    prompts: Sequence[Prompt]


def plan_compare(stage: CompareStage, recipe: Recipe, must_reach: bool) -> ComparePlan:
    """Resolves and checks the stage. Raises ConfigError or DataError with the remedy."""
    plan = ComparePlan(stage, *plan_questions(stage, recipe, must_reach))
    for i, contestant in enumerate(stage.contestants):
        if contestant.by is not None:
            refuse_unknown_models([contestant.by], recipe.before(stage.name), f"{stage.name}.contestants[{i}].by")
    return plan


def run_compare(plan: ComparePlan, run: StageRun) -> Result:
    """Has every contestant answer, has the answers judged, and reports scores, wins and distances."""
    stage = plan.stage
    run.cut_back(run.start)
    rewards = with_models(plan.rewards, run)
    found: dict[str, dict[str, Any]] = {}
    by_judge: dict[str, dict[str, Scores]] = {}
    answered = [_answers(plan, run, contestant) for contestant in stage.contestants]
    given = [group for groups, _ in answered for group in groups]
    run.progress.note(f"{stage.name}: judging {sum(len(group.samples) for group in given)} answers")
    with RewardSuite(rewards, stage.reward_timeout) as suite:
        suite.score(_side_by_side([groups for groups, _ in answered]))
        for contestant, (groups, kl) in zip(stage.contestants, answered, strict=True):
            record_samples(run.samples, f"{stage.name}: {contestant.label}", 0, groups)
            by_judge[contestant.label] = {label: _scores(groups, label) for label in suite.labels}
            samples = [sample for group in groups for sample in group.samples]
            found[contestant.label] = {
                "model": contestant.model,
                "best_of": contestant.best_of,
                "length": sum(len(sample.tokens) for sample in samples) / len(samples),
                "failed": sum(sample.failure is not None for sample in samples),
                **({} if kl is None else {"kl": kl}),
            }
    refuse_failures(given, stage.max_failed_share, "all are in samples.jsonl")
    first = stage.contestants[0].label
    for label, judged in by_judge.items():
        found[label]["scores"] = {judge: summarise(scores).numbers for judge, scores in judged.items()}
        found[label]["beats"] = {
            other: {judge: summarise(_wins(scores, theirs[judge])).numbers for judge, scores in judged.items()}
            for other, theirs in by_judge.items()
            if other != label
        }
    _test_wins(found, by_judge, first)
    return {"type": "compare", "against": first, "questions": len(plan.prompts), "contestants": found}


def _test_wins(found: Mapping[str, Any], by_judge: Mapping[str, Mapping[str, Scores]], first: str) -> None:
    """Beside how often each beats the first one, the p-value of as many wins as losses: of all of them together."""
    told = [(label, judge) for label, judged in by_judge.items() if label != first for judge in judged]
    wins = [_wins(by_judge[label][judge], by_judge[first][judge]) for label, judge in told]
    even = [{prompt: [0.5] for prompt in won} for won in wins]
    tests = corrected([compare(*pair) for pair in zip(even, wins, strict=True)])
    for (label, judge), test in zip(told, tests, strict=True):
        found[label]["beats"][first][judge]["p_value"] = None if test is None else test.p_value


def _answers(plan: ComparePlan, run: StageRun, contestant: Contestant) -> tuple[list[Group], float | None]:
    """What the contestant answers, and how far its model is from the one it is measured from."""
    stage = plan.stage
    policy = run.load_policy(model=contestant.model)
    wanted = len(plan.prompts) * stage.samples * contestant.best_of
    groups = roll_out(
        build_engine(run.recipe.engine, policy),
        policy.tokenizer,
        plan.prompts,
        stage.samples * contestant.best_of,
        stage.sampling,
        derive_seed(run.seed, contestant.label),
        watch=lambda done, _: run.progress.progress(done, wanted, f"answers of {contestant.label}"),
    )
    if contestant.by is not None:
        groups = [_best(group, scores, stage.samples) for group, scores in _chosen_by(contestant.by, groups, plan, run)]
        # Of its own distribution there are no log-probabilities, but a bound from the model that it samples.
        return groups, best_of_n_kl(contestant.best_of) if contestant.model == stage.kl_to else None
    if stage.kl_to is None:
        return groups, None
    return groups, _distance(groups, policy, run.load_policy(model=stage.kl_to), stage)


def _side_by_side(answers: Sequence[Sequence[Group]]) -> list[Group]:
    """All contestants' answers to each prompt as one group, by turns: who compares neighbours compares contestants."""
    found: list[Group] = []
    for groups in zip(*answers, strict=True):
        turns = zip(*(group.samples for group in groups), strict=True)
        found.append(Group(groups[0].prompt, groups[0].prompt_tokens, [sample for turn in turns for sample in turn]))
    return found


def _chosen_by(name: str, groups: Sequence[Group], plan: ComparePlan, run: StageRun) -> list[tuple[Group, list[float]]]:
    """Each group with what the reward model makes of its answers: of steps the worst, and none is worse than any."""
    model, found = run.load_reward_model(name), list[float | None]()
    wanted = sum(len(group.samples) for group in groups)
    for start in range(0, len(groups), _PORTION):
        found += score_answers(model, _rows(groups[start : start + _PORTION]), plan.stage.tokens_per_microbatch)
        run.progress.progress(len(found), wanted, f"answers scored by {name}")
    scores = iter([-math.inf if score is None else score for score in found])
    return [(group, [next(scores) for _ in group.samples]) for group in groups]


def _best(group: Group, scores: Sequence[float], samples: int) -> Group:
    """Of each run of answers, the one with the highest score."""
    n = len(scores) // samples
    best = [max(range(i * n, (i + 1) * n), key=lambda place: scores[place]) for i in range(samples)]
    return Group(group.prompt, group.prompt_tokens, [group.samples[place] for place in best])


@torch.no_grad()
def _distance(groups: Sequence[Group], policy: Policy, other: Policy, stage: CompareStage) -> float:
    """KL(policy || other) of whole answers, in nats: the mean of log policy - log other over the policy's samples."""
    total = 0.0
    for batch in pack(_rows(groups), stage.tokens_per_microbatch):
        own_A, theirs_A = (model.score(batch, stage.sampling)[0] for model in (policy, other))
        total += (own_A - theirs_A).sum().item()
    return total / sum(len(group.samples) for group in groups)


def _rows(groups: Sequence[Group]) -> list[Row]:
    return [
        Row(tuple(group.prompt_tokens), tuple(sample.tokens), number)
        for number, group in enumerate(groups)
        for sample in group.samples
    ]


def _scores(groups: Sequence[Group], label: str) -> Scores:
    return {group.prompt.id: [sample.rewards.get(label) for sample in group.samples] for group in groups}


def _wins(ours: Mapping[str, Sequence[float | None]], theirs: Mapping[str, Sequence[float | None]]) -> Scores:
    """For each prompt, against every answer of the other: 1 for a better one, 1/2 for one as good, 0 for a worse."""
    return {
        prompt: [
            None if a is None or b is None else 1.0 if a > b else 0.5 if a == b else 0.0
            for a in scores
            for b in theirs[prompt]
        ]
        for prompt, scores in ours.items()
    }
