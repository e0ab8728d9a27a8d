"""RLOO, REINFORCE leave-one-out. Ahmadian et al., 2024 (2402.14740), after Kool et al., 2019."""

from __future__ import annotations

from typing import ClassVar

from pydantic import NonNegativeFloat

from tutelage.algorithms.base import Algorithm
from tutelage.functional import advantages, policy_losses, ratios, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class Rloo(Algorithm):
    """The whole answer is one action, and its advantage is R - mean of the group's other rewards.

    The paper's loss is REINFORCE's; here it is the clipped surrogate of the answer's ratio, as in TRL:
    on-policy the gradient is the same, and unlike REINFORCE's it stays right over several updates a step.

    The anchor is in the reward, R - kl * log(behaviour / reference) of the answer, so its expected gradient
    is the KL's own. The paper tunes its weight to its learned rewards; 0 needs no reference model.
    """

    min_group_size: ClassVar[int] = 2
    weighs_answers: ClassVar[bool] = True
    skips_zero: ClassVar[bool] = True

    type: str = "rloo"
    clip_low: NonNegativeFloat = 0.2  # PPO's (1707.06347); the paper does not clip
    clip_high: NonNegativeFloat = 0.2

    def credit(self, experience: Experience) -> Credit:
        return experience.shared(advantages.leave_one_out(experience.rewards_PG, experience.valid_PG))

    def loss(self, actions: Actions) -> Loss:
        sequence_A, sequences = actions.sequence_A, actions.sequences
        ratio_B = ratios.whole_ratio(actions.logprobs_A, actions.behaviour_A, sequence_A, sequences)
        advantages_B = reductions.sequence_means(actions.advantages_A, sequence_A, sequences)
        terms_B, clipped_B = policy_losses.clipped_surrogate(ratio_B, advantages_B, self.clip_low, self.clip_high)
        total = terms_B.sum() + self.regulariser(actions).sum()
        return Loss(total, "sequences", self.metrics(actions, ratio=ratio_B[sequence_A], clipped=clipped_B[sequence_A]))
