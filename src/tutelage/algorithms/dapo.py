"""DAPO, decoupled clip and dynamic sampling policy optimisation. Yu et al., 2025 (2503.14476)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import NonNegativeFloat
from torch import Tensor

from tutelage.algorithms.base import Algorithm
from tutelage.functional import advantages, policy_losses, ratios, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class Dapo(Algorithm):
    """GRPO with a higher clip above, every token the same, and no group without spread: others are sampled in its
    place.

    Truncated answers teach nothing (`overlong_filter`). The paper's soft penalty for long answers is a reward: `length`
    with `maximum` = its L_max - L_cache and `falloff` = its L_cache, less a constant that the group's mean takes away.
    No KL, as in the paper. Left out: nothing.
    """

    min_group_size: ClassVar[int] = 2
    skips_zero: ClassVar[bool] = True

    type: str = "dapo"
    clip_low: NonNegativeFloat = 0.2  # section 4.1
    clip_high: NonNegativeFloat = 0.28
    dynamic_sampling: bool = True  # section 3.2
    overlong_filter: bool = True  # section 3.4

    def informative(self, rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        if not self.dynamic_sampling:
            return super().informative(rewards_PG, valid_PG)
        return advantages.group_centred(rewards_PG, valid_PG).ne(0).any(1)

    def credit(self, experience: Experience) -> Credit:
        credit = experience.shared(advantages.group_scaled(experience.rewards_PG, experience.valid_PG))
        if not self.overlong_filter:
            return credit
        ended_A = ~experience.truncated_PG.flatten()[experience.sequence_A]
        return replace(credit, advantages_A=credit.advantages_A * ended_A)

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        terms_A, clipped_A = policy_losses.clipped_surrogate(
            ratio_A, actions.advantages_A, self.clip_low, self.clip_high
        )
        metrics = self.metrics(actions, ratio=ratio_A, clipped=clipped_A)
        return Loss(*reductions.token_sum(terms_A + self.regulariser(actions)), metrics)
