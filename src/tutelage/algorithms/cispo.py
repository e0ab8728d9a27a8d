"""CISPO, clipped importance-sampling policy optimisation. MiniMax-M1, 2025 (2506.13585)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import NonNegativeFloat

from tutelage.algorithms.base import Algorithm
from tutelage.functional import advantages, policy_losses, ratios, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class Cispo(Algorithm):
    """-sg(clip(r)) A log policy, every token the same: the weight is clipped, so every token keeps its gradient.

    Left out: nothing. No KL, as in the paper.
    """

    min_group_size: ClassVar[int] = 2
    skips_zero: ClassVar[bool] = True

    type: str = "cispo"
    clip_low: NonNegativeFloat = 1.0  # of the weight; 1: no bound below, as in the paper
    clip_high: NonNegativeFloat = 4.0  # the paper tunes it and gives no value; a weight of 5 is ScaleRL's (2510.13786)

    def credit(self, experience: Experience) -> Credit:
        return experience.shared(advantages.group_scaled(experience.rewards_PG, experience.valid_PG))

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        terms_A, clipped_A = policy_losses.weighted_reinforce(
            actions.logprobs_A, ratio_A, actions.advantages_A, self.clip_low, self.clip_high
        )
        metrics = self.metrics(actions, ratio=ratio_A, clipped=clipped_A)
        return Loss(*reductions.token_sum(terms_A + self.regulariser(actions)), metrics)
