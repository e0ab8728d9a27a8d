"""GMPO, geometric-mean policy optimisation. Zhao et al., 2025 (2507.20673)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import NonNegativeFloat

from tutelage.algorithms.base import Algorithm
from tutelage.functional import advantages, policy_losses, ratios, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class Gmpo(Algorithm):
    """GRPO with the geometric mean of a sequence's token ratios in place of their arithmetic mean; the clip is wide, by
    token, on the log scale. Left out: nothing.
    """

    min_group_size: ClassVar[int] = 2
    weighs_answers: ClassVar[bool] = True
    skips_zero: ClassVar[bool] = True

    type: str = "gmpo"
    clip_low: NonNegativeFloat = 0.4  # section 4: (e^-0.4, e^0.4)
    clip_high: NonNegativeFloat = 0.4

    def credit(self, experience: Experience) -> Credit:
        return experience.shared(advantages.group_scaled(experience.rewards_PG, experience.valid_PG))

    def loss(self, actions: Actions) -> Loss:
        sequence_A, sequences = actions.sequence_A, actions.sequences
        ratio_B, clipped_A = ratios.geometric_ratio(
            actions.logprobs_A,
            actions.behaviour_A,
            actions.advantages_A,
            sequence_A,
            sequences,
            self.clip_low,
            self.clip_high,
        )
        advantages_B = reductions.sequence_means(actions.advantages_A, sequence_A, sequences)
        anchor, unit = reductions.sequence_mean_sum(self.regulariser(actions), sequence_A, sequences)
        total = policy_losses.surrogate(ratio_B, advantages_B).sum() + anchor
        return Loss(total, unit, self.metrics(actions, ratio=ratio_B[sequence_A], clipped=clipped_A))
