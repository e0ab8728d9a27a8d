"""What a training stage changes from step to step, all of it: a resumed run has nothing else to restore."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from tutelage.config import Optimizer
from tutelage.models import Policy, ValueModel
from tutelage.training.memory import Memory
from tutelage.training.optimizers import build_optimizer, hidden_matrices

# Dials of the loop itself; saved with a checkpoint like all of them.
STOP = "stop"  # above 0: the stage ends before its last step
SLOWER = "slower"  # what the learning rate is multiplied with since a roll back; without it 1
ROLLBACKS = "rollbacks"  # how many there were


class State:
    """The policy, its critic where there is one, their optimizer, and how many steps are done.

    `reference` is the anchor, where the algorithm has one; `moving`: is it changed, so that a checkpoint must hold it?
    `dials` are the numbers that an algorithm turns between updates, `buffers` other tensors that change, and are saved.

    There is no random state: noise is derived from the run's seed and the step (`tutelage.seeds`). There is no data
    position: what a step reads is a function of its number.
    """

    def __init__(
        self,
        policy: Policy,
        settings: Optimizer,
        critic: ValueModel | None = None,
        critic_lr: float | None = None,
        reference: Policy | None = None,
        moving: bool = False,
        dials: Mapping[str, float] | None = None,
        buffers: Mapping[str, Tensor] | None = None,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        """`rates`: the learning rates of single masters, by name, that have one of their own."""
        self.policy, self.critic = policy, critic
        self.reference, self.moving = reference, moving
        self.dials, self.buffers = dict(dials or {}), dict(buffers or {})
        self.settings = settings
        own = rates or {}
        groups = [{"params": [master for name, master in policy.masters.items() if name not in own], "share": 1.0}]
        groups += [{"params": [policy.masters[name]], "share": rate / settings.lr} for name, rate in own.items()]
        if critic is not None and critic_lr is not None:
            groups.append({"params": list(critic.masters.values()), "share": critic_lr / settings.lr})
        elif critic is not None:
            groups[0]["params"] += critic.masters.values()  # one group is one call into the optimizer's kernel
        self.optimizer = build_optimizer(settings, groups, hidden_matrices(policy.masters))
        self.step = 0
        self.memory = Memory()
        self.before_change: Callable[[], None] = lambda: None  # waits until a checkpoint has read the tensors

    @property
    def stopped(self) -> bool:
        """Has a task turned the dial that ends its stage before its last step?"""
        return self.dials.get(STOP, 0.0) > 0.0

    @property
    def models(self) -> tuple[Policy | ValueModel, ...]:
        """What is trained."""
        return (self.policy,) if self.critic is None else (self.policy, self.critic)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The masters of all that is trained, and the buffers, by name."""
        critic = {} if self.critic is None else self.critic.masters
        named = {f"critic/{name}": weight for name, weight in critic.items()}
        return {**self.policy.masters, **named, **{f"buffer/{name}": tensor for name, tensor in self.buffers.items()}}

    def moving_weights(self) -> dict[str, Tensor]:
        """The reference's weights, where they move; else nothing."""
        if self.reference is None or not self.moving:
            return {}
        return {name: weight.detach() for name, weight in self.reference.masters.items()}

    def set_rate(self, rate: float) -> None:
        """Sets the policy's learning rate; the critic's keeps its share of it."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]

    def publish(self) -> None:
        """Hands the updated masters to the forwards."""
        for model in self.models:
            model.publish()


def learning_rate(settings: Optimizer, step: int, total_steps: int) -> float:
    """The rate of step `step` (from 0) of `total_steps`: linear warm-up, then constant, linear or cosine decay.

    The decay ends at `final_lr_share` of the peak in the last step. `wsd` is constant until the last `decay_share` of
    the steps, in which it falls linearly (MiniCPM, 2404.06395).
    """
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.lr
    begin = settings.warmup_steps
    if settings.schedule == "wsd":
        begin = decay_begins(settings, total_steps)
    way = min(1.0, max(0.0, (step - begin) / max(1, total_steps - 1 - begin)))
    left = 1.0 - way if settings.schedule in ("linear", "wsd") else 0.5 * (1.0 + math.cos(math.pi * way))
    return settings.lr * (settings.final_lr_share + (1.0 - settings.final_lr_share) * left)


def decay_begins(settings: Optimizer, total_steps: int) -> int:
    """The last step (from 0) whose rate is still the peak under "wsd"; those after it decay."""
    return max(settings.warmup_steps, total_steps - 1 - round(settings.decay_share * total_steps))
