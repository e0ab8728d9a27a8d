"""The `pretrain` stage: predict the next token of texts, from random weights or going on with a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from tutelage.config import Architecture, PretrainStage, Recipe, Tokenizer
from tutelage.data.chat import render_text
from tutelage.data.corpus import Corpus, kept_corpus
from tutelage.data.packing import Row, pack
from tutelage.data.tokenizer import CONTROL_ENDS, train_tokenizer
from tutelage.errors import DataError, RunFolderError
from tutelage.models import Policy, create_model, describe, load_tokenizer
from tutelage.rollouts import places_of_step
from tutelage.seeds import derive_seed
from tutelage.stages.context import Result, StageRun
from tutelage.stages.conversations import load_texts
from tutelage.stages.held_out import HeldOut
from tutelage.stages.imitation import imitation_loss
from tutelage.training import State, decay_begins, update
from tutelage.types import Batch, Loss

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PretrainPlan:
    """The stage with everything resolved that can be known before a weight is loaded."""

    stage: PretrainStage
    from_nothing: bool  # does it make its model, or is there one before it?
    texts: Sequence[str]
    decay_texts: Sequence[str] = ()
    test: Sequence[str] = ()
    corpus: Corpus | None = None  # the texts as tokens, once the stage is reached
    decay_corpus: Corpus | None = None

    @property
    def total_steps(self) -> int:
        """As declared, or as many as the epochs give; 0 where that is not known before there are tokens."""
        if self.stage.steps is not None or self.corpus is None:
            return self.stage.steps or 0
        sequences = self.corpus.sequences(self.stage.context)
        return math.ceil(sequences * self.stage.epochs / self.stage.sequences_per_step)


def plan_pretrain(stage: PretrainStage, recipe: Recipe, must_reach: bool) -> PretrainPlan:
    """Resolves and checks the stage. Raises ConfigError or DataError with the remedy."""
    tables = {"source": stage.source, "decay_source": stage.decay_source, "test": stage.test}
    texts, decay_texts, test = (
        () if table is None else load_texts(table, f"{stage.name}.{key}", must_reach) for key, table in tables.items()
    )
    return PretrainPlan(stage, not recipe.policies_before(stage.name), texts, decay_texts, test)


def check_model(plan: PretrainPlan, tokenizer: PreTrainedTokenizerBase, context: int) -> None:
    """Raises DataError where the model cannot take such sequences, or the texts do not fill one; ModelError where texts
    cannot end."""
    render_text(tokenizer, "text")
    if plan.stage.context > context:
        raise DataError(
            f"{plan.stage.name}.context: {plan.stage.context} is above the model's own, {context}; lower it"
        )
    for key, texts in (("source", plan.texts), ("decay_source", plan.decay_texts)):
        lengths = accumulate(len(render_text(tokenizer, text)) for text in texts)
        if texts and all(length < plan.stage.context for length in lengths):
            raise DataError(
                f"{plan.stage.name}.{key}: its texts have fewer tokens than one sequence, {plan.stage.context} "
                f"(context); give it more of them, or lower {plan.stage.name}.context"
            )


def begin_from_nothing(plan: PretrainPlan, recipe: Recipe, folder: Path, note: Note) -> Path:
    """The model that the stage begins with: a tokenizer for its texts, and random weights. Made once, in its folder."""
    stage, start = plan.stage, folder / "start"
    if not start.is_dir():
        tokenizer = train_tokenizer([*plan.texts, *plan.decay_texts], stage.tokenizer or Tokenizer())
        ends = [tokenizer.convert_tokens_to_ids(word) for word in CONTROL_ENDS]
        seed = derive_seed(recipe.seed, stage.name, "weights")
        try:
            create_model(start, stage.architecture or Architecture(), tokenizer, ends, stage.context, seed)
        except (OSError, SafetensorError) as error:
            raise RunFolderError(f"{start}: cannot be written: {error}; make room, then `tutelage resume`") from error
        parameters = describe(start).parameters / 1e6
        note(f"{stage.name}: begins from nothing: {len(tokenizer)} tokens, {parameters:.1f} M random weights")
    return start


def tokenised(plan: PretrainPlan, model: Path, folder: Path, note: Note) -> PretrainPlan:
    """The plan with its texts as tokens. They are kept in the stage's folder and read there by a resumed run."""
    tokenizer = load_tokenizer(model)
    corpus = kept_corpus(folder / "corpus.safetensors", tokenizer, plan.texts)
    plan = replace(plan, corpus=corpus)
    if plan.decay_texts:
        plan = replace(plan, decay_corpus=kept_corpus(folder / "decay-corpus.safetensors", tokenizer, plan.decay_texts))
    tokens, size = len(corpus.tokens_T), sum(len(text.encode()) for text in plan.texts)
    note(
        f"{plan.stage.name}: {len(plan.texts)} texts, {size / 1e6:.1f} MB, {tokens} tokens of {size / tokens:.2f} bytes"
    )
    return plan


def run_pretrain(plan: PretrainPlan, run: StageRun) -> Result:
    """Trains the policy on the texts, measures it on the held-out ones, and saves it."""
    policy = run.load_policy()
    task = PretrainTask(plan, run, policy)
    state = run.begin(State(policy, plan.stage.optimizer))
    run.fit(task, state, plan.stage.checkpoints, plan.stage.guards)
    result: Result = {"type": "pretrain", "steps": state.step}
    if task.held_out is not None:
        result |= task.held_out.report(policy)
    return {**result, "saved": run.save_model(policy.save)}


def rows_of_step(plan: PretrainPlan, step: int, seed: int) -> list[Row]:
    """The rows of step `step` (from 0): an epoch has every sequence once, in an order of its own.

    Where there are texts to end with, the steps that decay read those, from their first epoch on.
    """
    corpus, context, count = plan.corpus, plan.stage.context, plan.stage.sequences_per_step
    if plan.decay_corpus is not None:
        first = decay_begins(plan.stage.optimizer, plan.total_steps) + 1
        if step >= first:
            corpus, seed, step = plan.decay_corpus, derive_seed(seed, "decay"), step - first
    assert corpus is not None, "a stage that is reached has its tokens"
    places = places_of_step(corpus.sequences(context), step, count, seed)
    return [row for place in places for row in corpus.rows(place, context)]


class PretrainTask:
    """What `fit` trains: a policy to go on with the texts."""

    def __init__(self, plan: PretrainPlan, run: StageRun, policy: Policy) -> None:
        self.plan, self.run, self.stage = plan, run, plan.stage
        self.total_steps = plan.total_steps
        self.held_out = HeldOut(plan.test, policy.tokenizer, plan.stage) if plan.test else None
        self._metrics: dict[str, float] = {}

    def minibatches(self, state: State) -> Iterator[Sequence[Batch]]:
        """One update a step, of the sequences whose turn it is."""
        rows = rows_of_step(self.plan, state.step, self.run.seed)
        self._metrics = {"tokens": float(sum(len(row.actions) for row in rows))}
        yield pack(rows, self.stage.tokens_per_microbatch)

    def update(self, state: State, batches: Sequence[Batch]) -> Mapping[str, float]:
        """One gradient step; then, where it is time, the held-out texts."""
        numbers = update(state, batches, self.loss, self.total_steps)
        step = state.step + 1
        if self.held_out is not None and (step % self.stage.evaluate_every == 0 or step == self.total_steps):
            numbers |= self.held_out.metrics(state.policy)
        return numbers

    def loss(self, policy: Policy, batch: Batch) -> Sequence[Loss]:
        return (imitation_loss(policy, batch, policy.states(batch)),)

    def after_step(self, state: State, metrics: Mapping[str, float]) -> None:
        pass

    def metrics(self) -> Mapping[str, float]:
        return self._metrics
