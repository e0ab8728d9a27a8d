"""Dr. GRPO, GRPO done right. Liu et al., 2025, Understanding R1-Zero-Like Training (2503.20783)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from tutelage.algorithms.base import Algorithm, action_sums
from tutelage.functional import advantages, policy_losses, ratios, reductions
from tutelage.types import Actions, Loss


class DrGrpo(Algorithm):
    """GRPO without its two biases: A = R - mean of the group, not scaled; a constant divisor instead of each
    length.

    On-policy its gradient is in expectation (G - 1) / (G * length) of the gradient of the expected reward.
    Left out: the KL term, which the paper drops as well (beta = 0).
    """

    min_group_size: ClassVar[int] = 2

    type: str = "dr_grpo"
    length: PositiveInt = 256  # tokens; the paper's is its generation budget: take sampling.max_new_tokens
    clip_low: NonNegativeFloat = 0.2  # PPO's (1707.06347), which the paper keeps
    clip_high: NonNegativeFloat = 0.2

    @property
    def needs_zero_advantage(self) -> bool:
        return False

    def credit(self, rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        return advantages.group_centred(rewards_PG, valid_PG)

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        terms_A, clipped_A = policy_losses.clipped_surrogate(
            ratio_A, actions.advantages_A, self.clip_low, self.clip_high
        )
        metrics = action_sums(entropy=actions.entropy_A, ratio=ratio_A, clipped=clipped_A)
        return Loss(*reductions.constant_length_sum(terms_A, self.length), metrics)
