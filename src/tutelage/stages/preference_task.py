"""What the `preference` stage trains: whole answers of a step, compared or told good from bad."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tutelage.algorithms import Answers, PreferenceLoss
from tutelage.config import PreferenceStage
from tutelage.data.packing import Row, pack
from tutelage.functional.reductions import sequence_sums
from tutelage.functional.reward_losses import pairs_within
from tutelage.models import Policy
from tutelage.rollouts import places_of_step
from tutelage.training import State, update
from tutelage.types import Batch, Loss, Unit


class PreferenceTask:
    """What `fit` trains. `rows` are each prompt's answers, `others` its answers to another prompt, for KTO."""

    def __init__(
        self,
        stage: PreferenceStage,
        loss: PreferenceLoss,
        seed: int,
        rows: Sequence[Sequence[Row]],
        others: Sequence[Sequence[Row]],
        total_steps: int,
    ) -> None:
        self.stage, self.preference, self.seed, self.rows, self.others = stage, loss, seed, rows, others
        self.total_steps = total_steps
        self._step: list[Row] = []
        self._mismatched_B: Tensor | None = None
        self._dials: Mapping[str, float] = {}
        self._metrics: dict[str, float] = {}

    def minibatches(self, state: State) -> Iterator[Sequence[Batch]]:
        """One update a step, of the prompts whose turn it is, each with all of its answers.

        Where the loss of one answer reads others of the step, and these are in several micro-batches, its slope in
        each answer's log-probability is found first, on detached ones; then each micro-batch carries its own on.
        """
        places = places_of_step(len(self.rows), state.step, self.stage.prompts_per_step, self.seed)
        self._step = [row for place in places for row in self.rows[place]]
        self._metrics = {"tokens": float(sum(len(row.tokens) for row in self._step))}
        self._dials, budget = state.dials, self.stage.tokens_per_microbatch
        if self.others:
            others = [row for place in places for row in self.others[place]]
            self._mismatched_B = score_answers(state.policy, others, budget) - _field(others, "reference")
        batches = pack(self._step, budget, whole_groups=True)
        if self.preference.coupled and len(batches) > 1:
            self._step = self._with_slopes(state.policy)
            batches = pack(self._step, budget, whole_groups=True)
        yield batches

    def update(self, state: State, batches: Sequence[Batch]) -> Mapping[str, float]:
        return update(state, batches, self.loss, self.total_steps)

    def loss(self, policy: Policy, batch: Batch) -> Sequence[Loss]:
        logprobs_A = policy.score(batch)[0]
        logprobs_B, named = _of_answers(logprobs_A, batch), {"the learner's log-probability": logprobs_A}
        rows = [self._step[index] for index in batch.rows]
        if "slope" in batch.fields:
            slope_B = _field(rows, "slope").to(logprobs_B.device)
            return (Loss((slope_B * logprobs_B).sum(), self._unit, terms=named),)
        total, metrics, counted = self._judged(rows, logprobs_B)
        return (Loss(total, self._unit, metrics, counted, named),)

    def after_step(self, state: State, metrics: Mapping[str, float]) -> None:
        state.dials = {**state.dials, **self.preference.turned(state.dials, metrics)}

    def metrics(self) -> Mapping[str, float]:
        return self._metrics

    @property
    def _unit(self) -> Unit:
        """All pairs of a prompt weigh as much as one; answers that are judged by themselves, one each."""
        return "prompts" if self.preference.paired else "sequences"

    def _judged(self, rows: Sequence[Row], logprobs_B: Tensor) -> tuple[Tensor, Mapping[str, Tensor], int]:
        """The sum of the loss, and the sums of its metrics with their count."""
        above = self.stage.good_above
        answers = answers_of(rows, logprobs_B, self.preference, above, self._mismatched_B, self._dials)
        terms = self.preference.loss(answers)
        if not self.preference.paired:
            return terms.losses.sum(), terms.metrics, len(terms.losses)
        share_P = pairs_within(*_groups(rows))[2].to(terms.losses.device)
        return (share_P * terms.losses).sum(), terms.metrics, len(terms.losses)

    def _with_slopes(self, policy: Policy) -> list[Row]:
        """The step's rows with the loss's slope in each answer's log-probability; notes its value and metrics."""
        logprobs_B = score_answers(policy, self._step, self.stage.tokens_per_microbatch).requires_grad_()
        total, metrics, counted = self._judged(self._step, logprobs_B)
        (slope_B,) = torch.autograd.grad(total, logprobs_B)
        units = len({row.group for row in self._step}) if self.preference.paired else len(self._step)
        self._metrics |= {name: value.item() / max(1, counted) for name, value in metrics.items()}
        self._metrics["loss"] = total.item() / units
        return [_with(row, "slope", slope) for row, slope in zip(self._step, slope_B.tolist(), strict=True)]


def answers_of(
    rows: Sequence[Row],
    logprobs_B: Tensor,
    loss: PreferenceLoss,
    good_above: float | None,
    mismatched_B: Tensor | None = None,
    dials: Mapping[str, float] | None = None,
) -> Answers:
    """What a loss sees of judged rows. `rows` are whole prompts."""
    device = logprobs_B.device
    group_B, judged_B = _groups(rows)
    better_P, worse_P, _ = pairs_within(group_B, judged_B)
    return Answers(
        logprobs_B=logprobs_B,
        lengths_B=torch.tensor([len(row.actions) for row in rows], device=device),
        reference_B=_field(rows, "reference").to(device) if loss.needs_reference else None,
        better_P=better_P.to(device),
        worse_P=worse_P.to(device),
        margins_P=(judged_B[better_P] - judged_B[worse_P]).to(device),
        good_B=(judged_B > (0.5 if good_above is None else good_above)).to(device),
        mismatched_B=None if mismatched_B is None else mismatched_B.to(device),
        dials=dials or {},
    )


@torch.no_grad()
def score_answers(
    policy: Policy, rows: Sequence[Row], tokens_per_microbatch: int, watch: Callable[[int], None] | None = None
) -> Tensor:
    """[B] log-probability of each row's actions, summed; on the CPU. `watch` hears how many are done."""
    logprobs_B, done = torch.zeros(len(rows)), 0
    for batch in pack(rows, tokens_per_microbatch):
        logprobs_B[list(batch.rows)] = _of_answers(policy.score(batch)[0], batch).cpu()
        done += len(batch.rows)
        if watch is not None:
            watch(done)
    return logprobs_B


def mismatched(rows: Sequence[Sequence[Row]], room: int) -> list[list[Row]]:
    """For each prompt's rows as many, whose answers are those to the next prompt: KTO's estimate of the KL."""
    found: list[list[Row]] = []
    for place, own in enumerate(rows):
        foreign = rows[(place + 1) % len(rows)]
        found.append(
            [
                replace(row, tokens=foreign[number % len(foreign)].tokens[: room - len(row.context)])
                for number, row in enumerate(own)
            ]
        )
    return found


def with_field(rows: Sequence[Sequence[Row]], name: str, values_B: Tensor) -> list[list[Row]]:
    """The rows of each prompt with one more field, a number for each row."""
    values = iter(values_B.tolist())
    return [[_with(row, name, next(values)) for row in prompt] for prompt in rows]


def _with(row: Row, name: str, value: float) -> Row:
    return replace(row, fields={**row.fields, name: value})


def _field(rows: Sequence[Row], name: str) -> Tensor:
    """[B] a field that is one number for each row."""
    return torch.tensor([row.fields[name] for row in rows], dtype=torch.float32)


def _groups(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    return torch.tensor([row.group for row in rows]), _field(rows, "judged")


def _of_answers(logprobs_A: Tensor, batch: Batch) -> Tensor:
    """[B] log-probability of each answer of a packed batch."""
    return sequence_sums(logprobs_A, batch.sequence_A.to(logprobs_A.device), batch.sequences)
