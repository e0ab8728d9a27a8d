"""GRPO, group relative policy optimisation. Shao et al., 2024, DeepSeekMath (2402.03300), section 4.1."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import NonNegativeFloat

from tutelage.algorithms.base import Algorithm
from tutelage.functional import advantages, policy_losses, ratios, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class Grpo(Algorithm):
    """Clipped surrogate + kl * k3, averaged within each sequence, then over sequences.

    Outcome supervision, section 4.1.2: A = (R - mean) / std of the group, the same for all tokens of a
    sample. Dividing by the group's std and by each answer's length makes this no gradient of the expected
    reward (2503.20783): easy and hard prompts, and short answers, weigh more. Left out: process supervision
    (4.1.3), iterative reward-model training (4.1.4).
    """

    min_group_size: ClassVar[int] = 2
    skips_zero: ClassVar[bool] = True

    type: str = "grpo"
    kl: NonNegativeFloat = 0.04  # section 4.2: "the KL coefficient as 0.04"; 0 needs no reference model
    kl_in: Literal["reward", "loss"] = "loss"
    kl_estimator: Literal["k1", "k2", "k3", "k3_unbiased", "exact"] = "k3"
    clip_low: NonNegativeFloat = 0.2  # the paper gives its epsilon no value; 0.2 is PPO's (1707.06347)
    clip_high: NonNegativeFloat = 0.2

    def credit(self, experience: Experience) -> Credit:
        return experience.shared(advantages.group_scaled(experience.rewards_PG, experience.valid_PG))

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        terms_A, clipped_A = policy_losses.clipped_surrogate(
            ratio_A, actions.advantages_A, self.clip_low, self.clip_high
        )
        terms_A = terms_A + self.regulariser(actions)
        metrics = self.metrics(actions, ratio=ratio_A, clipped=clipped_A)
        return Loss(*reductions.sequence_mean_sum(terms_A, actions.sequence_A, actions.sequences), metrics)
