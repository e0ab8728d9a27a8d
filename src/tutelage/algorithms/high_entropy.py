"""Only the fifth of the tokens with the highest entropy. Wang et al., 2025, Beyond the 80/20 Rule (2506.01939)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import NonNegativeFloat

from tutelage.algorithms.base import Algorithm
from tutelage.config import Share
from tutelage.functional import advantages, policy_losses, ratios, reductions, token_choice
from tutelage.types import Actions, Credit, Experience, Loss


class HighEntropy(Algorithm):
    """DAPO's surrogate on the tokens at which the policy was most uncertain; the others teach nothing, and count.

    Left out of the paper: DAPO's dynamic sampling, its overlong filter, and dividing by the chosen tokens alone (which
    only scales the rate).
    """

    min_group_size: ClassVar[int] = 2

    type: str = "high_entropy"
    share: Share = 0.2  # of the tokens
    clip_low: NonNegativeFloat = 0.2  # DAPO's
    clip_high: NonNegativeFloat = 0.28

    def credit(self, experience: Experience) -> Credit:
        return experience.shared(advantages.group_scaled(experience.rewards_PG, experience.valid_PG))

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        terms_A, clipped_A = policy_losses.clipped_surrogate(
            ratio_A, actions.advantages_A, self.clip_low, self.clip_high
        )
        chosen_A = token_choice.largest(actions.entropy_A.detach(), self.share)
        terms_A = terms_A * chosen_A + self.regulariser(actions)
        metrics = self.metrics(actions, ratio=ratio_A, clipped=clipped_A & chosen_A, chosen=chosen_A)
        return Loss(*reductions.token_sum(terms_A), metrics)
