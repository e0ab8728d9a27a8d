"""Lite PPO. Liu et al., 2025, Tricks or Traps? A Deep Dive into RL for LLM Reasoning (2508.08221)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import NonNegativeFloat

from tutelage.algorithms.base import Algorithm
from tutelage.functional import advantages, policy_losses, ratios, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class LitePpo(Algorithm):
    """PPO's clipped surrogate without a critic: A = (R - mean of the group) / std of the whole batch; every token the
    same. Left out: nothing.
    """

    min_group_size: ClassVar[int] = 2
    skips_zero: ClassVar[bool] = True

    type: str = "lite_ppo"
    clip_low: NonNegativeFloat = 0.2  # PPO's (1707.06347)
    clip_high: NonNegativeFloat = 0.2

    def credit(self, experience: Experience) -> Credit:
        rewards_PG, valid_PG = experience.rewards_PG, experience.valid_PG
        centred_PG = advantages.group_centred(rewards_PG, valid_PG)
        return experience.shared(advantages.batch_scaled(centred_PG, rewards_PG, valid_PG))

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        terms_A, clipped_A = policy_losses.clipped_surrogate(
            ratio_A, actions.advantages_A, self.clip_low, self.clip_high
        )
        metrics = self.metrics(actions, ratio=ratio_A, clipped=clipped_A)
        return Loss(*reductions.token_sum(terms_A + self.regulariser(actions)), metrics)
