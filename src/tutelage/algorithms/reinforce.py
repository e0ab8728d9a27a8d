"""REINFORCE. Williams, 1992, "Simple statistical gradient-following algorithms", Machine Learning 8."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tutelage.algorithms.base import Algorithm, action_sums
from tutelage.functional import advantages, policy_losses, reductions
from tutelage.types import Actions, Loss


class Reinforce(Algorithm):
    """Sum over sequences of -(R - b) log policy(sequence); b is 0 or the mean reward of the step.

    The gradient of the expected reward where the policy itself sampled; with the mean, whose own sample is in
    it, (n - 1) / n of it for n samples a step. Left out of the paper: eligibilities of other units than a
    softmax, and per-unit learning rates and baselines. There is no importance ratio: with several updates a
    step it is biased.
    """

    type: str = "reinforce"
    baseline: Literal["none", "mean"] = "mean"

    @property
    def needs_zero_advantage(self) -> bool:
        return False

    def credit(self, rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        if self.baseline == "mean":
            return advantages.batch_centred(rewards_PG, valid_PG)
        return torch.where(valid_PG, rewards_PG, 0.0)

    def loss(self, actions: Actions) -> Loss:
        terms_A = policy_losses.reinforce(actions.logprobs_A, actions.advantages_A)
        return Loss(*reductions.constant_length_sum(terms_A), action_sums(entropy=actions.entropy_A))
