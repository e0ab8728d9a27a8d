"""`ValueModel`: a critic of a language model's states, on the policy's own body or on one of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tutelage.models.policy import Policy
from tutelage.models.reward_model import RewardModel
from tutelage.types import Batch


class ValueModel:
    """One number for each state in which the policy acts: what it may still expect to earn.

    The head begins at 0, so that the first advantages are the returns. A body of its own begins as the policy's copy
    and is trained by itself: twice the memory, and the value's gradient does not pull on the policy.
    """

    def __init__(self, policy: Policy, apart: bool, start: RewardModel | None = None) -> None:
        """`start`: what a body of its own begins as, with its head, instead of as the policy's copy (InstructGPT)."""
        width = policy.module.get_input_embeddings().weight.shape[1]
        self.body = policy.twin() if apart and start is None else None
        self.weight_D = nn.Parameter(torch.zeros(width, device=policy.device))
        self.bias = nn.Parameter(torch.zeros((), device=policy.device))
        if start is not None:
            self.body, weight_D, mean = start.taken_apart()
            self.weight_D.data.copy_(weight_D)
            self.bias.data.fill_(-mean)

    @property
    def masters(self) -> dict[str, Tensor]:
        """What is trained, by name, in fp32."""
        body = {} if self.body is None else {f"body.{name}": weight for name, weight in self.body.masters.items()}
        return {"head.weight": self.weight_D, "head.bias": self.bias, **body}

    def values(self, batch: Batch, states_AD: Tensor) -> Tensor:
        """[A] in fp32.

        Args:
            states_AD: the policy's own states, which a critic with a body of its own does not read.
        """
        if self.body is not None:
            states_AD = self.body.states(batch)
        return states_AD.float() @ self.weight_D + self.bias

    def collect_gradients(self) -> None:
        if self.body is not None:
            self.body.collect_gradients()

    def publish(self) -> None:
        if self.body is not None:
            self.body.publish()
