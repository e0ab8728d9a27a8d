"""One update by gradient: of all micro-batches, divided once by the global counts, clipped, applied, published."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor

from tutelage.errors import NonFiniteError
from tutelage.models import Policy
from tutelage.training.finite import check_fields, fault_of_gradient, fault_of_loss
from tutelage.training.state import SLOWER, State, learning_rate
from tutelage.types import Batch, Loss, Unit

LossOf = Callable[[Policy, Batch], Sequence[Loss]]


def update(state: State, batches: Sequence[Batch], loss_of: LossOf, total_steps: int) -> dict[str, float]:
    """Applies one gradient step and returns its metrics.

    Losses and metrics are sums; losses are divided here, once, by the count of their unit over *all* batches, so how
    the rows were cut into micro-batches changes nothing. Metrics are of the scored tokens, so skipped ones do not
    count in theirs; those named `*_max` are maxima instead of sums. A metric is a mean over the batches that tell it.

    Raises:
        NonFiniteError: a loss, what it reads, or the gradient is not finite. Nothing was applied, no gradient is left
            behind.
    """
    try:
        total, metrics = accumulate(state, batches, loss_of)
        if not any(batch.acted for batch in batches):
            _zero_gradient(state.policy)
        norms = [_norm(model.masters) for model in state.models]
        if not all(map(math.isfinite, norms)):
            raise fault_of_gradient(state, batches, lambda batch: loss_of(state.policy, batch))
    except NonFiniteError:
        state.optimizer.zero_grad()
        raise
    for model, norm in zip(state.models, norms, strict=True):
        _clip(model.masters, norm, state.settings.max_grad_norm)
    rate = state.dials.get(SLOWER, 1.0) * learning_rate(state.settings, state.step, total_steps)
    state.set_rate(rate)
    state.before_change()
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.publish()
    critic = {"critic_grad_norm": norms[1]} if state.critic is not None else {}
    return {"loss": total, "grad_norm": norms[0], "lr": rate, **critic, **metrics}


def accumulate(state: State, batches: Sequence[Batch], loss_of: LossOf) -> tuple[float, dict[str, float]]:
    """Leaves the gradients of the whole loss at the masters. Returns the loss, and its metrics as means."""
    counts = counts_of(batches)
    total, sums, counted = 0.0, dict[str, Tensor](), dict[str, int]()
    for number, batch in enumerate(batches):
        if not batch.acted:
            continue  # nothing was acted, or all skipped: no loss, no gradient; its sequences are counted
        check_fields(batch)
        losses = loss_of(state.policy, batch)
        share = sum_of(losses, counts)
        value = share.item()
        if not math.isfinite(value):
            raise fault_of_loss(batch, losses, f"micro-batch {number + 1} of {len(batches)}")
        share.backward()
        for model in state.models:
            model.collect_gradients()
        total += value
        for told, name in ((loss, name) for loss in losses for name in loss.metrics):
            metric, before = told.metrics[name], sums.get(name)
            if before is not None:
                metric = torch.maximum(before, metric) if name.endswith("_max") else before + metric
            sums[name] = metric
            counted[name] = counted.get(name, 0) + (batch.acted if told.counted is None else told.counted)
    return total, {
        name: (value if name.endswith("_max") else value / max(1, counted[name])).item() for name, value in sums.items()
    }


def counts_of(batches: Sequence[Batch]) -> dict[Unit, int]:
    """What sums are divided by: of all batches, with what was skipped; of those shown, apart."""
    own = [batch for batch in batches if not batch.shown]
    return {
        "tokens": sum(batch.acted + batch.skipped_tokens for batch in own),
        "sequences": sum(batch.sequences + batch.skipped_sequences for batch in own),
        "prompts": sum(batch.prompts for batch in own),
        "shown": sum(batch.acted for batch in batches if batch.shown),
    }


def sum_of(losses: Sequence[Loss], counts: Mapping[Unit, int]) -> Tensor:
    """A micro-batch's share of the whole loss."""
    return reduce(add, (loss.total / counts[loss.unit] for loss in losses))


def _norm(masters: Mapping[str, Tensor]) -> float:
    """Of the gradient of all masters together."""
    return torch.nn.utils.get_total_norm([master.grad for master in masters.values() if master.grad is not None]).item()


def _clip(masters: Mapping[str, Tensor], norm: float, limit: float) -> None:
    """Scales the gradient down to the limit, where it is above."""
    if norm > limit:
        for master in masters.values():
            if master.grad is not None:
                master.grad.mul_(limit / norm)


def _zero_gradient(policy: Policy) -> None:
    """A gradient of 0 is still one: the optimizer's moments and its weight decay go on, as if it had been computed."""
    for master in policy.masters.values():
        master.grad = torch.zeros_like(master)
