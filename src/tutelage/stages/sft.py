"""The `sft` stage: imitate conversations. The same loop as reinforcement, with a credit of 1 for every shown token."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tutelage.algorithms import supervised_loss
from tutelage.config import Recipe, SftStage
from tutelage.data import Conversation
from tutelage.data.packing import Row, pack
from tutelage.environments import build_environment
from tutelage.errors import ConfigError
from tutelage.models import Policy, context_length
from tutelage.rollouts import places_of_step
from tutelage.stages.context import Result, StageRun, prompts_of
from tutelage.stages.conversations import conversation_rows, load_conversations
from tutelage.training import State, fit, update
from tutelage.types import Actions, Batch, Loss, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class SftPlan:
    """The stage with everything resolved that can be known before a weight is loaded."""

    stage: SftStage
    conversations: Sequence[Conversation]

    @property
    def total_steps(self) -> int:
        """As declared, or as many as the epochs give; the last step of an epoch reaches into the next one."""
        return self.stage.steps or math.ceil(
            len(self.conversations) * self.stage.epochs / self.stage.sequences_per_step
        )


def plan_sft(stage: SftStage, recipe: Recipe, must_reach: bool) -> SftPlan:
    """Resolves and checks the stage. Raises ConfigError or DataError with the remedy."""
    where = f"{stage.name}.source"
    if stage.source.get("type") == "environment":
        return SftPlan(stage, _demonstrations(stage, recipe, where, must_reach))
    return SftPlan(stage, load_conversations(stage.source, where, must_reach))


def _demonstrations(stage: SftStage, recipe: Recipe, where: str, must_reach: bool) -> list[Conversation]:
    """`source = { type = "environment", environment = NAME, limit = n }`: the environment's gold answers."""
    wrong = stage.source.keys() - {"type", "environment", "limit"}
    name, limit = stage.source.get("environment"), stage.source.get("limit")
    if wrong or name not in recipe.environments or not (limit is None or isinstance(limit, int)):
        raise ConfigError(
            f'{where}: wanted {{ type = "environment", environment = one of {sorted(recipe.environments)}, limit = a '
            f"number, or none for all }} (given: {stage.source})"
        )
    environment = build_environment(recipe.environments[name], f"environments.{name}")
    prompts = prompts_of(environment, "train", must_reach)[:limit]
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
    state = run.begin(State(policy, plan.stage.optimizer))
    fit(task, state, run.checkpoints, plan.stage.checkpoints, run.record, run.offsets)
    return {"type": "sft", "steps": state.step, "saved": run.save_model(policy.save)}


class SftTask:
    """What `fit` trains: a policy to write what the conversations show."""

    def __init__(self, plan: SftPlan, run: StageRun, policy: Policy) -> None:
        self.plan, self.run, self.stage = plan, run, plan.stage
        self.total_steps = plan.total_steps
        self.rows = render_rows(plan, policy.tokenizer, context_length(policy.module.config))
        self._metrics: dict[str, float] = {}

    def minibatches(self, state: State) -> Iterator[Sequence[Batch]]:
        """One update a step, of the conversations whose turn it is."""
        places = places_of_step(len(self.rows), state.step, self.stage.sequences_per_step, self.run.seed)
        rows = [self.rows[place] for place in places]
        self._metrics = {"tokens": float(sum(len(row.actions) for row in rows))}
        yield pack(rows, self.stage.tokens_per_microbatch)

    def update(self, state: State, batches: Sequence[Batch]) -> Mapping[str, float]:
        return update(state, batches, self.loss, self.total_steps)

    def after_step(self, state: State, metrics: Mapping[str, float]) -> None:
        pass

    def loss(self, policy: Policy, batch: Batch) -> Sequence[Loss]:
        logprobs_A, entropy_A = policy.score(batch)
        loss = supervised_loss(
            Actions(
                logprobs_A=logprobs_A,
                entropy_A=entropy_A,
                advantages_A=batch.fields["advantages"].to(logprobs_A.device),
                behaviour_A=logprobs_A.detach(),
                reference_A=None,
                sequence_A=batch.sequence_A.to(logprobs_A.device),
                sequences=batch.sequences,
            )
        )
        return (loss,)

    def metrics(self) -> Mapping[str, float]:
        return self._metrics


def render_rows(plan: SftPlan, tokenizer: PreTrainedTokenizerBase, context: int) -> list[Row]:
    """Every conversation as a row. Raises DataError for one that does not fit or teaches nothing."""
    stage = plan.stage
    where, budget = f"{stage.name}.source", stage.tokens_per_microbatch
    return conversation_rows(tokenizer, plan.conversations, stage.loss_on, context, budget, where)
