"""The `sft` stage: imitate conversations. The same loop as reinforcement, with a credit of 1 for every shown token."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch

from tutelage.config import Recipe, SftStage, Table
from tutelage.data import Conversation
from tutelage.data.packing import Row, pack
from tutelage.environments import environment_of
from tutelage.errors import ConfigError
from tutelage.models import Policy, context_length, noisy_embeddings
from tutelage.rollouts import places_of_step
from tutelage.seeds import derive_seed
from tutelage.stages.context import Result, StageRun, prompts_of
from tutelage.stages.conversations import conversation_rows, load_conversations, planned_conversations
from tutelage.stages.imitation import imitation_loss
from tutelage.stages.kept_weights import blend, copies, take
from tutelage.training import STOP, State, update
from tutelage.types import Batch, Loss, Message, Split

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_BEST = "best"  # the set of weights with the lowest perplexity so far


@dataclass(frozen=True, slots=True)
class SftPlan:
    """The stage with everything resolved that can be known before a weight is loaded."""

    stage: SftStage
    conversations: Sequence[Conversation]
    test: Sequence[Conversation] = ()

    @property
    def total_steps(self) -> int:
        """As declared, or as many as the epochs give; the last step of an epoch reaches into the next one."""
        return self.stage.steps or math.ceil(
            len(self.conversations) * self.stage.epochs / self.stage.sequences_per_step
        )


def plan_sft(stage: SftStage, recipe: Recipe, must_reach: bool) -> SftPlan:
    """Resolves and checks the stage. Raises ConfigError or DataError with the remedy."""
    where, held_out = f"{stage.name}.source", f"{stage.name}.test"
    if stage.source.get("type") == "environment":
        conversations = _demonstrations(stage.source, "train", recipe, where, must_reach)
    else:
        conversations = planned_conversations(stage.source, recipe, stage.name, where, must_reach)
    if stage.test is None:
        test = ()
    elif stage.test.get("type") == "environment":
        test = _demonstrations(stage.test, "test", recipe, held_out, must_reach)
    else:
        test = load_conversations(stage.test, held_out, must_reach)
    return SftPlan(stage, conversations, test)


def _demonstrations(table: Table, split: Split, recipe: Recipe, where: str, must_reach: bool) -> list[Conversation]:
    """`{ type = "environment", environment = NAME, limit = n }`: the environment's gold answers of a split."""
    wrong = table.keys() - {"type", "environment", "limit"}
    name, limit = table.get("environment"), table.get("limit")
    if wrong or name not in recipe.environments or not (limit is None or isinstance(limit, int)):
        raise ConfigError(
            f'{where}: wanted {{ type = "environment", environment = one of {sorted(recipe.environments)}, limit = a '
            f"number, or none for all }} (given: {table})"
        )
    environment = environment_of(recipe, name)
    if environment.reads:
        raise ConfigError(
            f"{where}: the prompts of '{name}' are still to be made by the stage '{environment.reads[0]}'; give the "
            "file that it leaves as path, in a recipe of its own"
        )
    prompts = prompts_of(environment, split, must_reach)[:limit]
    return [
        Conversation(
            prompt.id,
            messages=(*prompt.messages, Message("assistant", environment.demonstration(prompt))),
        )
        for prompt in prompts
    ]


def run_sft(plan: SftPlan, run: StageRun) -> Result:
    """Trains the policy by imitation and saves it."""
    policy = run.load_policy()
    task = SftTask(plan, run, policy)
    buffers = {} if plan.stage.patience is None else copies(policy, _BEST)
    state = run.begin(State(policy, plan.stage.optimizer, buffers=buffers))
    run.fit(task, state, plan.stage.checkpoints, plan.stage.guards)
    take(state, _BEST)
    result: Result = {"type": "sft", "steps": state.step}
    if plan.test:
        result["perplexity"] = math.exp(task.test_loss(policy))
    return {**result, "saved": run.save_model(policy.save)}


class SftTask:
    """What `fit` trains: a policy to write what the conversations show."""

    def __init__(self, plan: SftPlan, run: StageRun, policy: Policy) -> None:
        self.plan, self.run, self.stage = plan, run, plan.stage
        self.total_steps = plan.total_steps
        context = context_length(policy.module.config)
        self.rows = render_rows(plan, policy.tokenizer, context)
        self.test = pack(render_rows(plan, policy.tokenizer, context, "test"), plan.stage.tokens_per_microbatch)
        self._places: list[int] = []
        self._noise_seed: int | None = None
        self._metrics: dict[str, float] = {}

    def minibatches(self, state: State) -> Iterator[Sequence[Batch]]:
        """One update a step, of the conversations whose turn it is."""
        self._places = places_of_step(len(self.rows), state.step, self.stage.sequences_per_step, self.run.seed)
        rows = [self.rows[place] for place in self._places]
        self._metrics = {"tokens": float(sum(len(row.actions) for row in rows))}
        self._noise_seed = None if self.stage.neftune is None else derive_seed(self.run.seed, "neftune", state.step)
        yield pack(rows, self.stage.tokens_per_microbatch)

    def update(self, state: State, batches: Sequence[Batch]) -> Mapping[str, float]:
        """One gradient step; then, where it is time, the perplexity of the held-out texts."""
        numbers = update(state, batches, self.loss, self.total_steps)
        step = state.step + 1
        if self.test and (step % self.stage.evaluate_every == 0 or step == self.total_steps):
            numbers["test_loss"] = self.test_loss(state.policy)
            numbers["perplexity"] = math.exp(numbers["test_loss"])
        return numbers

    def after_step(self, state: State, metrics: Mapping[str, float]) -> None:
        """Keeps the best weights, and stops where they have stayed the best for too long."""
        if self.stage.patience is None or "test_loss" not in metrics:
            return
        if metrics["test_loss"] < state.dials.get("lowest", math.inf):
            state.dials |= {"lowest": metrics["test_loss"], "waited": 0.0}
            blend(state, _BEST, 0.0)
            return
        waited = state.dials["waited"] + 1.0
        state.dials |= {"waited": waited, STOP: float(waited >= self.stage.patience)}

    def loss(self, policy: Policy, batch: Batch) -> Sequence[Loss]:
        with self._noise(policy, batch):
            states_AD = policy.states(batch)
        loss = imitation_loss(policy, batch, states_AD)
        if self.stage.label_smoothing:
            gap_A = policy.uniform_gap(states_AD, batch)
            advantages_A = batch.fields["advantages"].to(gap_A.device)
            smoothed = loss.total + self.stage.label_smoothing * (advantages_A * gap_A).sum()
            return (replace(loss, total=smoothed),)
        return (loss,)

    def metrics(self) -> Mapping[str, float]:
        return self._metrics

    @torch.no_grad()
    def test_loss(self, policy: Policy) -> float:
        """The held-out texts' cross-entropy, in nats a token: without noise, without smoothing."""
        total = sum(-policy.score(batch)[0].double().sum().item() for batch in self.test)
        return total / sum(batch.acted for batch in self.test)

    def _noise(self, policy: Policy, batch: Batch) -> AbstractContextManager[None]:
        if self.stage.neftune is None or self._noise_seed is None:
            return nullcontext()
        seeds = [derive_seed(self._noise_seed, self._places[index]) for index in batch.rows]
        return noisy_embeddings(policy, batch, self.stage.neftune, seeds)


def render_rows(
    plan: SftPlan, tokenizer: PreTrainedTokenizerBase, context: int, key: Literal["source", "test"] = "source"
) -> list[Row]:
    """Every conversation as a row. Raises DataError for one that does not fit or teaches nothing."""
    stage = plan.stage
    conversations = plan.conversations if key == "source" else plan.test
    where, budget = f"{stage.name}.{key}", stage.tokens_per_microbatch
    return conversation_rows(tokenizer, conversations, stage.loss_on, context, budget, where)
