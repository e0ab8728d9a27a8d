"""GSPO, group sequence policy optimisation. Zheng et al., 2025 (2507.18071)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import NonNegativeFloat

from tutelage.algorithms.base import Algorithm
from tutelage.functional import advantages, policy_losses, ratios, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class Gspo(Algorithm):
    """GRPO whose ratio, and clip, are the sequence's: the geometric mean of its tokens' ratios.

    `level = "token"` is GSPO-token (equation 13): the same where all tokens share their advantage, and fit for
    advantages of their own. Left out: nothing.
    """

    min_group_size: ClassVar[int] = 2
    weighs_answers: ClassVar[bool] = True
    skips_zero: ClassVar[bool] = True

    type: str = "gspo"
    level: Literal["sequence", "token"] = "sequence"
    clip_low: NonNegativeFloat = 3e-4  # section 5.1
    clip_high: NonNegativeFloat = 4e-4

    def credit(self, experience: Experience) -> Credit:
        return experience.shared(advantages.group_scaled(experience.rewards_PG, experience.valid_PG))

    def loss(self, actions: Actions) -> Loss:
        of = actions.logprobs_A, actions.behaviour_A, actions.sequence_A, actions.sequences
        if self.level == "token":
            ratio_A = ratios.sequence_ratio_by_token(*of)
        else:
            ratio_A = ratios.sequence_ratio(*of)[actions.sequence_A]
        terms_A, clipped_A = policy_losses.clipped_surrogate(
            ratio_A, actions.advantages_A, self.clip_low, self.clip_high
        )
        terms_A = terms_A + self.regulariser(actions)
        metrics = self.metrics(actions, ratio=ratio_A, clipped=clipped_A)
        return Loss(*reductions.sequence_mean_sum(terms_A, actions.sequence_A, actions.sequences), metrics)
