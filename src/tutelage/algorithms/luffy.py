"""LUFFY, learning to reason under off-policy guidance. Yan et al., 2025 (2504.14945)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import NonNegativeFloat, PositiveFloat

from tutelage.algorithms.base import Algorithm, promised
from tutelage.functional import advantages, policy_losses, ratios, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class Luffy(Algorithm):
    """GRPO with one answer of an expert in every group: the environment's own demonstration.

    The policy's answers have the clipped surrogate; the expert's have -f(p) A, p their probability under the policy
    (the expert's own is taken as 1) and f(p) = p / (p + shaping), which keeps a gradient on tokens that the policy
    finds unlikely. Every token the same. Left out: several experts' answers in a group.
    """

    min_group_size: ClassVar[int] = 3  # two of the policy's, and the expert's
    skips_zero: ClassVar[bool] = True

    type: str = "luffy"
    shaping: PositiveFloat = 0.1  # gamma, section 3.3
    clip_low: NonNegativeFloat = 0.2  # PPO's (1707.06347)
    clip_high: NonNegativeFloat = 0.2

    @property
    def needs_expert(self) -> bool:
        return True

    def credit(self, experience: Experience) -> Credit:
        return experience.shared(advantages.group_scaled(experience.rewards_PG, experience.valid_PG))

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        own_A, clipped_A = policy_losses.clipped_surrogate(ratio_A, actions.advantages_A, self.clip_low, self.clip_high)
        guided_A = policy_losses.shaped(actions.logprobs_A, actions.advantages_A, self.shaping)
        expert_A = promised(actions.expert_A, "expert_A", "needs_expert")
        terms_A = torch.where(expert_A, guided_A, own_A) + self.regulariser(actions)
        metrics = self.metrics(actions, ratio=ratio_A, clipped=clipped_A & ~expert_A)
        return Loss(*reductions.token_sum(terms_A), metrics)
