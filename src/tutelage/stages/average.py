"""A moving average of the policy's weights, which a stage may leave instead of the last ones (InstructGPT: 0.992)."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.config import RlStage
from tutelage.models import Policy
from tutelage.training import State

_PREFIX = "average/"


def first_average(stage: RlStage, policy: Policy) -> dict[str, Tensor]:
    """The state's buffers that hold it; none where the stage has none."""
    if stage.average is None:
        return {}
    return {_PREFIX + name: master.detach().clone() for name, master in policy.masters.items()}


@torch.no_grad()
def move_average(state: State, keep: float) -> None:
    """After a step: keeps that share of the average and takes the rest from the policy."""
    state.before_change()
    for name, master in state.policy.masters.items():
        state.buffers[_PREFIX + name].lerp_(master, 1.0 - keep)


@torch.no_grad()
def take_average(state: State) -> None:
    """Puts the average, where there is one, in the place of the policy's weights."""
    for name, master in state.policy.masters.items():
        if _PREFIX + name in state.buffers:
            master.copy_(state.buffers[_PREFIX + name])
    state.policy.publish()
