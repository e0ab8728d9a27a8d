"""What a training stage changes from step to step, all of it: a resumed run has nothing else to restore."""

from __future__ import annotations

import math

import torch

from tutelage.config import Optimizer
from tutelage.models import Policy


class State:
    """The policy, its optimizer, and how many steps are done.

    There is no random state: noise is derived from the run's seed and the step (`tutelage.seeds`). There is no data
    position: what a step reads is a function of its number.
    """

    def __init__(self, policy: Policy, settings: Optimizer) -> None:
        self.policy = policy
        self.settings = settings
        self.optimizer = torch.optim.AdamW(
            policy.masters.values(),
            lr=settings.lr,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.step = 0


def learning_rate(settings: Optimizer, step: int, total_steps: int) -> float:
    """The rate of step `step` (from 0) of `total_steps`: linear warm-up, then constant, linear or cosine decay.

    The decay ends at `final_lr_share` of the peak in the last step.
    """
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.lr
    span = max(1, total_steps - 1 - settings.warmup_steps)
    way = min(1.0, (step - settings.warmup_steps) / span)
    left = 1.0 - way if settings.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * way))
    return settings.lr * (settings.final_lr_share + (1.0 - settings.final_lr_share) * left)
