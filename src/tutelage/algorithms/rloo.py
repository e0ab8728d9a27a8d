"""RLOO, REINFORCE leave-one-out. Ahmadian et al., 2024 (2402.14740), after Kool et al., 2019."""

from __future__ import annotations

from typing import ClassVar

from pydantic import NonNegativeFloat
from torch import Tensor

from tutelage.algorithms.base import Algorithm, action_sums, reference_of
from tutelage.functional import advantages, kl, policy_losses, ratios, reductions
from tutelage.types import Actions, Loss


class Rloo(Algorithm):
    """The whole answer is one action, and its advantage is R - mean of the group's other rewards.

    The paper's loss is REINFORCE's; here it is the clipped surrogate of the answer's ratio, as in TRL:
    on-policy the gradient is the same, and unlike REINFORCE's it stays right over several updates a step.

    The anchor is in the reward, R - kl * log(behaviour / reference) of the answer, so its expected gradient
    is the KL's own. Left out: the leave-one-out baseline of that part, as the loss does not know groups:
    unbiased, more variance.
    """

    min_group_size: ClassVar[int] = 2

    type: str = "rloo"
    kl: NonNegativeFloat = 0.0  # the paper tunes it to its learned rewards; 0 needs no reference model
    clip_low: NonNegativeFloat = 0.2  # PPO's (1707.06347); the paper does not clip
    clip_high: NonNegativeFloat = 0.2

    @property
    def needs_reference(self) -> bool:
        return self.kl > 0.0

    @property
    def needs_zero_advantage(self) -> bool:
        return self.kl > 0.0  # the anchor is in the advantage, added after the credit

    def credit(self, rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        return advantages.leave_one_out(rewards_PG, valid_PG)

    def loss(self, actions: Actions) -> Loss:
        sequence_A, sequences = actions.sequence_A, actions.sequences
        ratio_B = ratios.whole_ratio(actions.logprobs_A, actions.behaviour_A, sequence_A, sequences)
        advantages_B = reductions.sequence_means(actions.advantages_A, sequence_A, sequences)
        metrics: dict[str, Tensor] = {}
        if self.needs_reference:
            reference_A = reference_of(actions)
            drift_A = kl.k1(actions.behaviour_A, reference_A)
            advantages_B = advantages_B - self.kl * reductions.sequence_sums(drift_A, sequence_A, sequences)
            metrics |= action_sums(kl=kl.k3(actions.logprobs_A, reference_A))
        terms_B, clipped_B = policy_losses.clipped_surrogate(ratio_B, advantages_B, self.clip_low, self.clip_high)
        metrics |= action_sums(entropy=actions.entropy_A, ratio=ratio_B[sequence_A], clipped=clipped_B[sequence_A])
        return Loss(terms_B.sum(), "sequences", metrics)
