"""A second set of the policy's weights that a stage may leave instead of the last ones: their average, or the best."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.models import Policy
from tutelage.training import State


def copies(policy: Policy, name: str) -> dict[str, Tensor]:
    """The state's buffers that hold the set, which begins as the weights are."""
    return {f"{name}/{weight}": master.detach().clone() for weight, master in policy.masters.items()}


@torch.no_grad()
def blend(state: State, name: str, keep: float) -> None:
    """Keeps that share of the set and takes the rest from the policy; 0 takes the policy's weights as they are."""
    state.before_change()
    for weight, master in state.policy.masters.items():
        state.buffers[f"{name}/{weight}"].lerp_(master, 1.0 - keep)


@torch.no_grad()
def take(state: State, name: str) -> None:
    """Puts the set, where there is one, in the place of the policy's weights."""
    for weight, master in state.policy.masters.items():
        if f"{name}/{weight}" in state.buffers:
            master.copy_(state.buffers[f"{name}/{weight}"])
    state.policy.publish()
