"""One update: gradients of all micro-batches, divided once by the global count, clipped, applied, published."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tutelage.errors import NonFiniteError
from tutelage.models import Policy
from tutelage.training.state import State, learning_rate
from tutelage.types import Batch, Loss

LossOf = Callable[[Policy, Batch], Loss]


def update(state: State, batches: Sequence[Batch], loss_of: LossOf, total_steps: int) -> dict[str, float]:
    """Applies one gradient step and returns its metrics.

    Losses and metrics are sums; they are divided here, once, by the count of their unit over *all* batches, so how the
    rows were cut into micro-batches changes nothing. Metrics are of the scored tokens, so skipped ones do not count in
    theirs; those named `*_max` are maxima instead of sums.

    Raises:
        NonFiniteError: a loss or the gradient is not finite. Nothing was applied, no gradient is left behind.
    """
    policy, optimizer = state.policy, state.optimizer
    counts = {
        "tokens": sum(len(batch.action_A) + batch.skipped_tokens for batch in batches),
        "sequences": sum(batch.sequences + batch.skipped_sequences for batch in batches),
    }
    total = 0.0
    sums: dict[str, Tensor] = {}
    try:
        for number, batch in enumerate(batches):
            if not len(batch.action_A):
                continue  # nothing was acted, or all skipped: no loss, no gradient; its sequences are counted
            loss = loss_of(policy, batch)
            if not torch.isfinite(loss.total):
                raise NonFiniteError(f"the loss of micro-batch {number + 1} of {len(batches)} is {loss.total.item()}")
            (loss.total / counts[loss.unit]).backward()
            policy.collect_gradients()
            total += loss.total.item() / counts[loss.unit]
            for name, value in loss.metrics.items():
                if name not in sums:
                    sums[name] = value
                else:
                    sums[name] = torch.maximum(sums[name], value) if name.endswith("_max") else sums[name] + value
        if not any(len(batch.action_A) for batch in batches):
            _zero_gradient(policy)
        norm = torch.nn.utils.clip_grad_norm_(policy.masters.values(), state.settings.max_grad_norm)
        if not torch.isfinite(norm):
            raise NonFiniteError(f"the norm of the gradient is {norm.item()}")
    except NonFiniteError:
        optimizer.zero_grad()
        raise
    rate = learning_rate(state.settings, state.step, total_steps)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad()
    policy.publish()
    tokens = max(1, sum(len(batch.action_A) for batch in batches))
    metrics = {name: (s if name.endswith("_max") else s / tokens).item() for name, s in sums.items()}
    return {"loss": total, "grad_norm": norm.item(), "lr": rate, **metrics}


def _zero_gradient(policy: Policy) -> None:
    """A gradient of 0 is still one: the optimizer's moments and its weight decay go on, as if it had been computed."""
    for master in policy.masters.values():
        master.grad = torch.zeros_like(master)
