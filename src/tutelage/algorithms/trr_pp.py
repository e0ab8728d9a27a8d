"""Task-relative REINFORCE++ (TRR++). Zhao et al., 2025, *Absolute Zero* (2505.03335), section 3.3.5."""

from __future__ import annotations

from typing import ClassVar

from pydantic import NonNegativeFloat

from tutelage.algorithms.base import Algorithm
from tutelage.functional import advantages, policy_losses, ratios, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class TrrPp(Algorithm):
    """PPO's clipped surrogate without a critic. A: (R - mean) / standard deviation of what its role earned in the step.

    Between a baseline for each question (GRPO) and one for all (REINFORCE++): who proposes and who solves earn on
    scales of their own. The paper has one for each of two roles in three tasks; here there is one task. Without
    self-play all samples of a step are one role.
    """

    skips_zero: ClassVar[bool] = True

    type: str = "trr_pp"
    clip_low: NonNegativeFloat = 0.2  # PPO's (1707.06347)
    clip_high: NonNegativeFloat = 0.2

    def credit(self, experience: Experience) -> Credit:
        role_P, _ = experience.parts
        return experience.shared(advantages.role_scaled(experience.rewards_PG, experience.valid_PG, role_P))

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        terms_A, clipped_A = policy_losses.clipped_surrogate(
            ratio_A, actions.advantages_A, self.clip_low, self.clip_high
        )
        metrics = self.metrics(actions, ratio=ratio_A, clipped=clipped_A)
        return Loss(*reductions.token_sum(terms_A + self.regulariser(actions)), metrics)
