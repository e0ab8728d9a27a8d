"""What a stage asks of a machine: the rows that its steps learn from, the answers that they sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tutelage.config import Recipe, Sampling
from tutelage.data.chat import render_prompt
from tutelage.data.packing import Row
from tutelage.rewards import Reward
from tutelage.rollouts import places_of_step, prompts_of_step
from tutelage.seeds import derive_seed
from tutelage.stages import (
    ComparePlan,
    EvaluatePlan,
    LabelPlan,
    Plan,
    PreferencePlan,
    PretrainPlan,
    RejectionPlan,
    RewardModelPlan,
    RlPlan,
    SftPlan,
    render_rows,
    rows_of_prompts,
    text_rows,
)
from tutelage.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LOOKED_AT = 8  # steps whose rows are looked at, from the first one on
_ASKED_AT_MOST = 512  # prompts of a stage that asks all of them at once, which are looked at; the others are like them
_SHOWN_AT_MOST = 512  # texts of a stage's `pretraining`, likewise


@dataclass(frozen=True, slots=True)
class Asked:
    """What is sampled at once: prompts as tokens, and so many answers to each."""

    prompts: tuple[tuple[int, ...], ...]
    answers: int
    sampling: Sampling
    share: float = 1.0  # of all prompts, those that are given here

    @property
    def sequences(self) -> int:
        return len(self.prompts) * self.answers

    def rows(self, lengths: Sequence[int]) -> list[Row]:
        """The prompts with their answers, given how long those are, in turn."""
        asked = [(number, prompt) for number, prompt in enumerate(self.prompts) for _ in range(self.answers)]
        return [Row(p, (0,) * lengths[i % len(lengths)], number) for i, (number, p) in enumerate(asked)]


@dataclass(frozen=True, slots=True)
class Demand:
    """One step of a stage; of a stage without steps, all of it.

    `rows_of` makes the rows of some of its steps, given how long sampled answers are, in turn.
    """

    steps: int
    rows_of: Callable[[Sequence[int]], list[list[Row]]] = field(default=lambda lengths: [])
    tokens_per_microbatch: int = 0
    whole_groups: bool = False
    passes: int = 1  # how often a step learns from its rows
    updates: int = 1  # of the weights, in a step
    shown: float = 0.0  # positions of other texts that the policy learns from in each update
    forwards: int = 0  # of the rows without a gradient: by the policy before it moves, by a reference
    scored_once: int = 0  # rows that are scored before the first step
    asked: Asked | None = None
    rounds: int = 1  # of asking, in a step
    readings: float = 0.0  # of what was asked, outside learning: how often a model reads it, to choose or to judge
    reference: bool = False  # is one held beside the policy, in the compute type?
    moving: bool = False  # does it move? Then it has fp32 masters
    critic: bool = False  # is one with a body of its own trained?
    judges: tuple[str, ...] = ()  # stages and folders whose reward models score the answers
    lm_head: bool = True  # are log-probabilities computed? A reward model has a narrow head


def demand_of(
    plan: Plan, recipe: Recipe, tokenizer: PreTrainedTokenizerBase, context: int, answer: int | None
) -> Demand | None:
    """What a stage asks, as far as its plan tells; None where nothing is learned or sampled by a language model.

    Args:
        context: the longest sequence of the model.
        answer: tokens of an answer that a stage is still to write; None: as many as it may have.
    """
    seed = derive_seed(recipe.seed, plan.stage.name)
    match plan:
        case PretrainPlan(stage=stage):
            row = Row((), (0,) * stage.context, 0)
            steps = plan.total_steps or _steps_of_texts(plan, tokenizer)
            rows = [replace(row, group=i) for i in range(stage.sequences_per_step)]
            return Demand(steps, lambda _: [rows], stage.tokens_per_microbatch)
        case SftPlan(stage=stage):
            rows = [[row] for row in render_rows(plan, tokenizer, context)]
            made = rows or [[Row((0,) * 64, (0,) * (answer or 256), 0)]]
            steps = max(1, plan.total_steps)
            return Demand(steps, _steps_of(made, stage.sequences_per_step, steps, seed), stage.tokens_per_microbatch)
        case RewardModelPlan(stage=stage) | PreferencePlan(stage=stage):
            return _of_judged(plan, tokenizer, context, seed, answer)
        case RlPlan():
            return _of_rl(plan, recipe, tokenizer, context, seed)
        case EvaluatePlan(stage=stage):
            answers = 1 if stage.sampling.greedy else stage.samples
            return _of_asking(plan.prompts, tokenizer, answers, stage.sampling, _judges_of(plan.rewards))
        case LabelPlan(stage=stage) | RejectionPlan(stage=stage):
            return _of_asking(plan.prompts, tokenizer, stage.answers, stage.sampling, _judges_of(plan.rewards))
        case ComparePlan():
            return _of_comparison(plan, tokenizer)
        case _:
            return None


def _of_judged(
    plan: RewardModelPlan | PreferencePlan,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    seed: int,
    answer: int | None,
) -> Demand:
    stage = plan.stage
    if isinstance(plan, RewardModelPlan):
        rows = plan.rows("source", tokenizer, context)
    else:
        rows = rows_of_prompts(stage, plan.judged, tokenizer, context, "source")
    if not rows:  # a stage before it is to make them
        rows = [[Row((0,) * 64, (0,) * (answer or 256), 0) for _ in range(2)]]
    steps = max(1, plan.total_steps)
    reference = isinstance(plan, PreferencePlan) and plan.loss.needs_reference
    return Demand(
        steps,
        _steps_of(rows, stage.prompts_per_step, steps, seed),
        stage.tokens_per_microbatch,
        whole_groups=True,
        scored_once=sum(len(some) for some in rows) if reference else 0,
        lm_head=isinstance(plan, PreferencePlan),
    )


def _of_rl(plan: RlPlan, recipe: Recipe, tokenizer: PreTrainedTokenizerBase, context: int, seed: int) -> Demand:
    stage, algorithm = plan.stage, plan.algorithm
    prompts = _prompts_of(plan.prompts, stage.prompts_per_step, seed, tokenizer)
    critic, judges = algorithm.needs_critic, _judges_of(plan.rewards)
    asked = Asked(prompts, stage.completions_per_prompt, stage.longest_sampling)
    return Demand(
        stage.steps,
        lambda lengths: [asked.rows(lengths)],
        stage.tokens_per_microbatch,
        whole_groups=algorithm.compares,
        passes=stage.epochs,
        updates=plan.updates,
        shown=_shown(plan, tokenizer, context),
        forwards=int(plan.scores_itself) + int(algorithm.needs_reference),
        asked=asked,
        rounds=1 + int(algorithm.needs_greedy),
        readings=len(judges),
        reference=plan.holds_reference,
        moving=stage.reference.moves,
        critic=critic is not None and critic.kind == "model",
        judges=judges,
    )


def _shown(plan: RlPlan, tokenizer: PreTrainedTokenizerBase, context: int) -> float:
    """Positions of the texts of one update, as long as some of them are."""
    settings = plan.stage.pretraining
    rows = text_rows(replace(plan, texts=plan.texts[:_SHOWN_AT_MOST]), tokenizer, context)
    if settings is None or not rows:
        return 0.0
    return settings.sequences_per_update * sum(len(row.context) + len(row.tokens) for row in rows) / len(rows)


def _judges_of(rewards: Sequence[Reward]) -> tuple[str, ...]:
    """The reward models among some rewards."""
    return tuple(str(name) for reward in rewards for name in getattr(reward, "models", ()))


def _of_asking(
    prompts: Sequence[Prompt],
    tokenizer: PreTrainedTokenizerBase,
    answers: int,
    sampling: Sampling,
    judges: tuple[str, ...] = (),
) -> Demand | None:
    """Prompts that are asked at once, each answer read by each judge."""
    some = [tuple(render_prompt(tokenizer, prompt)) for prompt in prompts[:_ASKED_AT_MOST]]
    if not some:
        return None
    asked = Asked(tuple(some), answers, sampling, len(some) / len(prompts))
    return Demand(1, asked=asked, readings=len(judges), judges=judges)


def _of_comparison(plan: ComparePlan, tokenizer: PreTrainedTokenizerBase) -> Demand | None:
    """Candidates are read by what chooses among them; answers by each judge, and for the KL by two policies."""
    stage = plan.stage
    judges = _judges_of(plan.rewards)
    candidates = sum(one.best_of for one in stage.contestants)
    demand = _of_asking(plan.prompts, tokenizer, stage.samples * candidates, stage.sampling, judges)
    if demand is None:
        return None
    chosen = sum(one.best_of for one in stage.contestants if one.by is not None)
    measured = sum(one.by is None for one in stage.contestants) if stage.kl_to is not None else 0
    readings = (chosen + len(judges) * len(stage.contestants) + 2 * measured) / candidates
    # Judges are loaded first, each for itself; what chooses is loaded beside them, for one contestant at a time.
    choosers = dict.fromkeys(one.by for one in stage.contestants if one.by is not None)
    return replace(demand, readings=readings, reference=measured > 0, judges=(*judges, *choosers))


def _prompts_of(
    prompts: Sequence[Prompt], count: int, seed: int, tokenizer: PreTrainedTokenizerBase
) -> tuple[tuple[int, ...], ...]:
    """A step's prompts; where a stage is still to make them, some of a usual length."""
    if not prompts:
        return ((0,) * 64,) * count
    return tuple(tuple(render_prompt(tokenizer, prompt)) for prompt in prompts_of_step(prompts, 0, count, seed))


def _steps_of(
    units: Sequence[Sequence[Row]], count: int, steps: int, seed: int
) -> Callable[[Sequence[int]], list[list[Row]]]:
    """The rows of the first steps, as the stage itself will take them."""

    def rows_of(lengths: Sequence[int]) -> list[list[Row]]:
        taken = [places_of_step(len(units), step, count, seed) for step in range(min(steps, _LOOKED_AT))]
        return [[replace(r, group=i) for i, place in enumerate(places) for r in units[place]] for places in taken]

    return rows_of


def _steps_of_texts(plan: PretrainPlan, tokenizer: PreTrainedTokenizerBase) -> int:
    """Steps of the epochs over its texts, by the tokens of some of them."""
    size = sum(len(text.encode()) for text in plan.texts)
    some = "".join(plan.texts[:100])[:100_000]
    if not some:
        return 0
    tokens = size * len(tokenizer.encode(some)) / len(some.encode())
    return math.ceil(tokens / plan.stage.context * plan.stage.epochs / plan.stage.sequences_per_step)
