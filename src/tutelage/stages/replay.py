"""A step of an `rl` stage computed again from the record, token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tutelage.engines import Completion, ScriptedEngine
from tutelage.environments import SelfPlay
from tutelage.errors import ConfigError, NonFiniteError, RunFolderError
from tutelage.models import Policy
from tutelage.rewards import RewardSuite
from tutelage.rollouts import prompts_begun
from tutelage.stages.collect import Collector
from tutelage.stages.context import StageRun
from tutelage.stages.inspection import push_of
from tutelage.stages.rl import loaded_state, texts_of
from tutelage.stages.rl_plan import RlPlan
from tutelage.stages.rl_task import RlTask
from tutelage.training import SLOWER, Memory, load_checkpoint, mean_of
from tutelage.types import Actions, Batch, Group, Loss, Prompt, Sample

Recorded = Callable[[int], Iterable[Mapping[str, Any]]]
"""The lines of `samples.jsonl` of a step, which counts from 1."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of an answer, as the sampler and the learner see it."""

    text: str
    sampler: float  # log-probability
    learner: float  # log-probability, before the step moved it
    advantage: float
    ratio: float  # to what the loss divides by, in the step's last update
    clipped: bool  # it has an advantage, and the loss no slope in it, KL and entropy bonus left out

    @property
    def difference(self) -> float:
        return self.learner - self.sampler


@dataclass(frozen=True, slots=True)
class Replay:
    """What a step was."""

    step: int
    checkpoint: int  # the step whose weights it was computed from
    samples: Sequence[Sample]
    tokens: Mapping[str, Sequence[Token]]  # by the sample's name, PROMPT/INDEX; not of those that were skipped
    numbers: Mapping[str, float]  # loss, gradient norm, ...: as computed again
    error: str | None = None  # of a step that could not be applied


def replay_step(
    plan: RlPlan, run: StageRun, step: int, recorded: Recorded, slower: Sequence[tuple[int, float]] = ()
) -> Replay:
    """Computes a step of a stage again. Nothing is sampled, rewarded or written.

    The weights are those of the newest checkpoint before it, or those that the stage began with, led on over the steps
    between by what is on record of them.

    Args:
        slower: of each roll back, in their order, the step gone back to and the share of the learning rate since.

    Raises:
        RunFolderError: the step is not on record.
        ConfigError: the stage is of a kind that the record does not suffice for.
    """
    _refuse_unrecorded(plan)
    state = loaded_state(plan, run)
    policy = state.policy
    load_checkpoint(state, run.checkpoints, at_most=step - 1)
    checkpoint = state.step
    collector = _FromRecord(plan, run, recorded, state.memory)
    task = _Dissected(plan, run, collector, texts_of(plan, run, policy))
    numbers: dict[str, float] = {}
    while state.step < step:
        task.begin()
        for to, share in slower:
            if to <= state.step:
                state.dials[SLOWER] = share
        try:
            numbers = mean_of([task.update(state, batches) for batches in task.minibatches(state)])
        except NonFiniteError as error:
            return Replay(state.step + 1, checkpoint, collector.samples, task.tokens(policy), {}, str(error))
        state.step += 1
        task.after_step(state, numbers)
    return Replay(step, checkpoint, collector.samples, task.tokens(policy), {**numbers, **task.metrics()})


def _refuse_unrecorded(plan: RlPlan) -> None:
    name = plan.stage.name
    if isinstance(plan.environment, SelfPlay):
        raise ConfigError(f"{name}: the prompts of self-play are not on record, so its steps cannot be computed again")
    if plan.algorithm.needs_greedy:
        raise ConfigError(
            f"{name}: the greedy answers that '{plan.algorithm.type}' compares with are not on record, so its steps "
            "cannot be computed again"
        )


class _FromRecord(Collector):
    """Takes the groups of a step from the record, in the place of sampling and rewarding them."""

    def __init__(self, plan: RlPlan, run: StageRun, recorded: Recorded, memory: Memory) -> None:
        engine = ScriptedEngine(lambda request, index: Completion())
        super().__init__(plan, run, engine, RewardSuite(plan.rewards), memory)
        self.recorded = recorded
        self._left: Iterator[Mapping[str, Any]] = iter(())
        self._step = -1

    @property
    def samples(self) -> list[Sample]:
        return [sample for group in self._seen for sample in group.samples]

    def remember(self) -> None:
        """As in the run, but nothing is written."""
        list(self.quarantine.judge(self._seen))

    def _ask(
        self, policy: Policy, prompts: Sequence[Prompt], step: int, attempt: int, seconds: list[float]
    ) -> list[Group]:
        if step != self._step:
            self._step, self._left = step, iter(list(self.recorded(step + 1)))
        count = self.stage.completions_per_prompt
        return [
            Group(begun.prompt, begun.prompt_tokens, [self._sample(begun.prompt, policy) for _ in range(count)])
            for begun in prompts_begun(policy.tokenizer, prompts, 0)
        ]

    def _sample(self, prompt: Prompt, policy: Policy) -> Sample:
        line = next(self._left, None)
        if line is None or line["prompt_id"] != prompt.id or "ids" not in line:
            found = "has none" if line is None else f"has one of {line['prompt_id']!r}"
            raise RunFolderError(
                f"step {self._step + 1}: samples.jsonl should have a sample of the prompt {prompt.id!r} with its "
                f"tokens here, and {found}: it was cut back on a resume, or an older version wrote it"
            )
        return Sample(
            prompt_id=prompt.id,
            index=line["index"],
            tokens=line["ids"],
            logprobs=line["logprobs"],
            text=line["text"],
            finish=line["finish"],
            version=policy.version,
            expert=line.get("expert", False),
            rewards=line["rewards"],
            token_rewards=line.get("token_rewards", []),
            reward=line["reward"],
            failure=line["failure"],
        )


@dataclass(slots=True)
class _Column:
    """What the losses of a step saw of one answer."""

    tokens: list[int] = field(default_factory=list[int])
    rows: list[tuple[float, ...]] = field(default_factory=list[tuple[float, ...]])


class _Dissected(RlTask):
    """The task, which notes what its loss sees of each token; of several updates, the last one's."""

    def begin(self) -> None:
        """Forgets the step before."""
        self._columns: dict[str, _Column] = {}

    def tokens(self, policy: Policy) -> dict[str, list[Token]]:
        """Of each answer, by its name."""
        return {
            name: [
                Token(policy.tokenizer.decode([token]), *numbers[:4], clipped=bool(numbers[4]))
                for token, numbers in zip(column.tokens, column.rows, strict=True)
            ]
            for name, column in self._columns.items()
        }

    def _policy_loss(self, actions: Actions, batch: Batch) -> Loss:
        if torch.is_grad_enabled():  # not in the line search of a trust region
            self._note(actions, batch)
        return super()._policy_loss(actions, batch)

    def _note(self, actions: Actions, batch: Batch) -> None:
        now_A = actions.logprobs_A.detach()
        sampler_A, learner_A = batch.fields["sampler"], batch.fields.get("behaviour", now_A)
        ratio_A = (now_A - actions.behaviour_A).exp()
        advantages_A = actions.advantages_A
        push_A, _ = push_of(self.algorithm, actions)
        clipped_A = (push_A == 0.0) & (advantages_A != 0.0)
        rows = torch.stack([sampler_A, learner_A.cpu(), advantages_A.cpu(), ratio_A.cpu(), clipped_A.float().cpu()], 1)
        again_A = batch.fields.get("replayed", torch.zeros(batch.acted)).tolist()  # answers of earlier steps
        own = {name: _Column() for name in batch.names}
        sequences, tokens = batch.sequence_A.tolist(), batch.tokens_N[batch.action_A].tolist()
        for sequence, token, row, again in zip(sequences, tokens, rows.tolist(), again_A, strict=True):
            if not again:
                own[batch.names[sequence]].tokens.append(token)
                own[batch.names[sequence]].rows.append(tuple(row))
        self._columns |= {name: column for name, column in own.items() if column.tokens}
