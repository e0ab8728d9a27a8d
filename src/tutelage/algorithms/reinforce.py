"""REINFORCE. Williams, 1992, "Simple statistical gradient-following algorithms", Machine Learning 8."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import model_validator

from tutelage.algorithms.base import Algorithm, refuse_idle
from tutelage.functional import advantages, policy_losses, reductions, returns
from tutelage.types import Actions, Credit, Experience, Loss


class Reinforce(Algorithm):
    """Sum over sequences of -(R - b) log policy(sequence); b is 0 or the mean reward of the step.

    The gradient of the expected reward where the policy itself sampled; with the mean, whose own sample is in
    it, (n - 1) / n of it for n samples a step. With `credit_of = "action"` an action is credited with what came after
    it only, discounted: the same expectation at discount 1, less variance where rewards come along the way.
    Left out of the paper: eligibilities of other units than a softmax, and per-unit learning rates and baselines.
    There is no importance ratio: with several updates a step it is biased.
    """

    skips_zero: ClassVar[bool] = True

    type: str = "reinforce"
    baseline: Literal["none", "mean"] = "mean"
    credit_of: Literal["sequence", "action"] = "sequence"
    discount: float = 1.0  # of later rewards, where each action has its own credit

    @model_validator(mode="after")
    def _actions_have_the_discount(self) -> Reinforce:
        if self.credit_of == "sequence":
            refuse_idle(
                self, ("discount",), "sequences are credited as wholes; leave it out, or set credit_of = 'action'"
            )
        return self

    def credit(self, experience: Experience) -> Credit:
        if self.credit_of == "sequence":
            rewards_PG, valid_PG = experience.rewards_PG, experience.valid_PG
            if self.baseline == "mean":
                return experience.shared(advantages.batch_centred(rewards_PG, valid_PG))
            return experience.shared(torch.where(valid_PG, rewards_PG, 0.0))
        returns_A = returns.discounted_sums(
            experience.rewards_A, experience.sequence_A, len(experience.after_B), self.discount, experience.after_B
        )
        return Credit(returns_A - returns_A.mean() if self.baseline == "mean" else returns_A)

    def loss(self, actions: Actions) -> Loss:
        terms_A = policy_losses.reinforce(actions.logprobs_A, actions.advantages_A) + self.regulariser(actions)
        return Loss(*reductions.constant_length_sum(terms_A), self.metrics(actions))
