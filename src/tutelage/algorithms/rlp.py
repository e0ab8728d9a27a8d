"""RLP, reinforcement as a pre-training objective. Hatamizadeh et al., 2025 (2510.01265)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import NonNegativeFloat

from tutelage.algorithms.base import Algorithm
from tutelage.functional import advantages, policy_losses, ratios, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class Rlp(Algorithm):
    """Clipped surrogate by token, averaged within each thought; A = G / (G - 1) (R - mean of the group).

    That advantage is the leave-one-out one, so for thoughts of one length the expected gradient on-policy is the
    expected reward's over that length. No KL, as in the paper (beta = 0). Its reward is the component
    `information-gain`, but any will do. Left out: nothing.
    """

    min_group_size: ClassVar[int] = 2
    skips_zero: ClassVar[bool] = True

    type: str = "rlp"
    clip_low: NonNegativeFloat = 0.2  # PPO's (1707.06347)
    clip_high: NonNegativeFloat = 0.2

    def credit(self, experience: Experience) -> Credit:
        return experience.shared(advantages.leave_one_out(experience.rewards_PG, experience.valid_PG))

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        terms_A, clipped_A = policy_losses.clipped_surrogate(
            ratio_A, actions.advantages_A, self.clip_low, self.clip_high
        )
        terms_A = terms_A + self.regulariser(actions)
        metrics = self.metrics(actions, ratio=ratio_A, clipped=clipped_A)
        return Loss(*reductions.sequence_mean_sum(terms_A, actions.sequence_A, actions.sequences), metrics)
