"""REINFORCE++. Hu, 2025, An Efficient RLHF Algorithm with Robustness to Both Prompt and Reward Models (2501.03262)."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, model_validator

from tutelage.algorithms.base import Algorithm, refuse_idle
from tutelage.config import Share
from tutelage.functional import advantages, policy_losses, ratios, reductions, returns
from tutelage.types import Actions, Credit, Experience, Loss


class ReinforcePp(Algorithm):
    """PPO's clipped surrogate without a critic. A: each token's return, with the KL penalty in the reward of each
    token, to mean 0 and standard deviation 1 over all tokens of the batch.

    `baseline = "group"` is REINFORCE++-baseline: R - mean of the group instead of the return, scaled the same way; the
    paper then has its KL in the loss, by k2 (`kl_in = "loss"`, `kl_estimator = "k2"`). Left out: nothing.
    """

    type: str = "reinforce_pp"
    baseline: Literal["none", "group"] = "none"
    discount: Share = 1.0
    clip_low: NonNegativeFloat = 0.2  # PPO's (1707.06347)
    clip_high: NonNegativeFloat = 0.2

    @model_validator(mode="after")
    def _returns_have_the_discount(self) -> ReinforcePp:
        if self.baseline == "group":
            refuse_idle(self, ("discount",), "baseline = 'group' credits whole answers, undiscounted; leave it out")
        return self

    @property
    def least_completions(self) -> int:
        return 2 if self.baseline == "group" else 1

    def credit(self, experience: Experience) -> Credit:
        if self.baseline == "group":
            centred_PG = advantages.group_centred(experience.rewards_PG, experience.valid_PG)
            return Credit(advantages.whitened(experience.shared(centred_PG).advantages_A))
        of = experience.rewards_A, experience.sequence_A, len(experience.after_B), self.discount, experience.after_B
        return Credit(advantages.whitened(returns.discounted_sums(*of)))

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        terms_A, clipped_A = policy_losses.clipped_surrogate(
            ratio_A, actions.advantages_A, self.clip_low, self.clip_high
        )
        metrics = self.metrics(actions, ratio=ratio_A, clipped=clipped_A)
        return Loss(*reductions.token_sum(terms_A + self.regulariser(actions)), metrics)
