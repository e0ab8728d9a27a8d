"""One update by natural gradient under a bound on the KL, with a line search that may refuse it (TRPO)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from tutelage.config import TrustRegion
from tutelage.errors import NonFiniteError
from tutelage.functional.trust_region import conjugate_gradients, line_search, longest_step
from tutelage.models import Policy
from tutelage.training.finite import fault_of_gradient
from tutelage.training.state import SLOWER, State
from tutelage.training.update import LossOf, accumulate, counts_of, sum_of
from tutelage.types import Batch

Divergence = Callable[[Policy, Policy | None, Batch], Tensor]


def trust_region_update(
    state: State,
    batches: Sequence[Batch],
    loss_of: LossOf,
    divergence: Divergence,
    region: TrustRegion,
) -> dict[str, float]:
    """Moves the policy along its natural gradient, as far as the mean KL(behaviour || policy) allows and the loss
    falls.

    The policy's weights must be its masters (fp32). There is no learning rate: the bound says how far.

    Args:
        loss_of: the policy's losses of a micro-batch.
        divergence: [A] KL of each action's distribution, from that of a frozen policy, or from its own, detached.

    Raises:
        NonFiniteError: the loss, its gradient or the step is not finite. Nothing was applied.
    """
    policy, weights = state.policy, list(state.policy.masters.values())
    region = region.model_copy(update={"delta": region.delta * state.dials.get(SLOWER, 1.0)})
    batches = [batch for batch in batches if batch.acted]
    if not batches:
        return {"refused": 1.0}
    counts = counts_of(batches)
    try:
        before, metrics = accumulate(state, batches, loss_of)
        gradient_D = _flat(_with_zeros([weight.grad for weight in weights], weights))
    finally:
        state.optimizer.zero_grad()
    norm = gradient_D.norm().item()
    if not torch.isfinite(gradient_D.sum()):
        raise fault_of_gradient(state, batches, lambda batch: loss_of(policy, batch))

    step_D = _natural_step(policy, batches, gradient_D, divergence, region)
    behaviour, start_D = policy.frozen_copy(), _flat(weights).detach()  # apart: cat copies

    @torch.no_grad()
    def go_to(share: float) -> float:
        _assign(weights, start_D + share * step_D if share else start_D)
        return sum(divergence(policy, behaviour, batch).sum().item() for batch in batches) / counts["tokens"]

    @torch.no_grad()
    def loss_here() -> float:
        return sum(sum_of(loss_of(policy, batch), counts).item() for batch in batches)

    state.before_change()
    found = line_search(go_to, loss_here, before, region.delta, region.backtracks, region.shrink)
    policy.publish()
    return {
        "loss": before,
        "grad_norm": norm,
        "moved": found.kl,
        "step_share": found.share,
        "refused": float(found.share == 0.0),
        **metrics,
    }


def _natural_step(
    policy: Policy, batches: Sequence[Batch], gradient_D: Tensor, divergence: Divergence, region: TrustRegion
) -> Tensor:
    """[D] along the natural gradient, downhill, as far as the quadratic of the KL allows."""
    fisher = _fisher_product(policy, batches[:: round(1.0 / region.curvature_share)], divergence, region.damping)
    direction_D = conjugate_gradients(fisher, -gradient_D, region.iterations)
    step_D = longest_step(direction_D, fisher(direction_D), region.delta)
    if not torch.isfinite(step_D.sum()):
        raise NonFiniteError("the natural gradient is not finite; raise the trust region's damping")
    return step_D


def _fisher_product(
    policy: Policy, batches: Sequence[Batch], divergence: Divergence, damping: float
) -> Callable[[Tensor], Tensor]:
    """v -> (F + damping) v by double backward, F the Fisher matrix as the mean over the batches' actions.

    The graph of a single batch is built once; of several, anew for each product, so that memory is that of one.
    """
    weights, tokens = list(policy.masters.values()), counts_of(batches)["tokens"]

    def slopes(batch: Batch) -> Tensor:
        kl = divergence(policy, None, batch).sum() / tokens
        return _flat(_with_zeros(torch.autograd.grad(kl, weights, create_graph=True, allow_unused=True), weights))

    only_D = slopes(batches[0]) if len(batches) == 1 else None

    def product(vector_D: Tensor) -> Tensor:
        product_D = damping * vector_D
        for batch in batches:
            along = (slopes(batch) if only_D is None else only_D).dot(vector_D)
            curved = torch.autograd.grad(along, weights, retain_graph=only_D is not None, allow_unused=True)
            product_D += _flat(_with_zeros(curved, weights))
        return product_D

    return product


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _with_zeros(slopes: Sequence[Tensor | None], weights: Sequence[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(w) if s is None else s for s, w in zip(slopes, weights, strict=True)]


def _assign(weights: Sequence[Tensor], flat_D: Tensor) -> None:
    for weight, values in zip(weights, flat_D.split([w.numel() for w in weights]), strict=True):
        weight.copy_(values.view_as(weight))
