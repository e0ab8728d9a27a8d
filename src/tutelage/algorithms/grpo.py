"""GRPO, group relative policy optimisation. Shao et al., 2024, DeepSeekMath (2402.03300), section 4.1."""

from __future__ import annotations

from typing import ClassVar

from pydantic import NonNegativeFloat
from torch import Tensor

from tutelage.algorithms.base import Algorithm, action_sums, reference_of
from tutelage.functional import advantages, kl, policy_losses, ratios, reductions
from tutelage.types import Actions, Loss


class Grpo(Algorithm):
    """Clipped surrogate + kl * k3, averaged within each sequence, then over sequences.

    Outcome supervision, section 4.1.2: A = (R - mean) / std of the group, the same for all tokens of a
    sample. Dividing by the group's std and by each answer's length makes this no gradient of the expected
    reward (2503.20783): easy and hard prompts, and short answers, weigh more. Left out: process supervision
    (4.1.3), iterative reward-model training (4.1.4).
    """

    min_group_size: ClassVar[int] = 2

    type: str = "grpo"
    kl: NonNegativeFloat = 0.04  # section 4.2: "the KL coefficient as 0.04"; 0 needs no reference model
    clip_low: NonNegativeFloat = 0.2  # the paper gives its epsilon no value; 0.2 is PPO's (1707.06347)
    clip_high: NonNegativeFloat = 0.2

    @property
    def needs_reference(self) -> bool:
        return self.kl > 0.0

    @property
    def needs_zero_advantage(self) -> bool:
        return self.kl > 0.0  # the anchor pulls on every sample

    def credit(self, rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        return advantages.group_scaled(rewards_PG, valid_PG)

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        terms_A, clipped_A = policy_losses.clipped_surrogate(
            ratio_A, actions.advantages_A, self.clip_low, self.clip_high
        )
        metrics = action_sums(entropy=actions.entropy_A, ratio=ratio_A, clipped=clipped_A)
        if self.needs_reference:
            kl_A = kl.k3(actions.logprobs_A, reference_of(actions))
            terms_A = terms_A + self.kl * kl_A
            metrics |= action_sums(kl=kl_A)
        return Loss(*reductions.sequence_mean_sum(terms_A, actions.sequence_A, actions.sequences), metrics)
