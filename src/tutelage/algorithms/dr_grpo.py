"""Dr. GRPO, GRPO done right. Liu et al., 2025, Understanding R1-Zero-Like Training (2503.20783)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import NonNegativeFloat, PositiveInt

from tutelage.algorithms.base import Algorithm
from tutelage.functional import advantages, policy_losses, ratios, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class DrGrpo(Algorithm):
    """GRPO without its two biases: A = R - mean of the group, not scaled; a constant divisor instead of each
    length.

    On-policy its gradient is in expectation (G - 1) / (G * length) of the gradient of the expected reward.
    The paper drops the KL term (beta = 0); here it is a key, as for every algorithm. Left out: nothing.
    """

    min_group_size: ClassVar[int] = 2
    skips_zero: ClassVar[bool] = True

    type: str = "dr_grpo"
    length: PositiveInt = 256  # tokens; the paper's is its generation budget: take sampling.max_new_tokens
    clip_low: NonNegativeFloat = 0.2  # PPO's (1707.06347), which the paper keeps
    clip_high: NonNegativeFloat = 0.2

    def credit(self, experience: Experience) -> Credit:
        return experience.shared(advantages.group_centred(experience.rewards_PG, experience.valid_PG))

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        terms_A, clipped_A = policy_losses.clipped_surrogate(
            ratio_A, actions.advantages_A, self.clip_low, self.clip_high
        )
        terms_A = terms_A + self.regulariser(actions)
        metrics = self.metrics(actions, ratio=ratio_A, clipped=clipped_A)
        return Loss(*reductions.constant_length_sum(terms_A, self.length), metrics)
