"""OPO, on-policy RL with optimal reward baseline. Hao et al., 2025 (2505.23585)."""

from __future__ import annotations

from typing import ClassVar

from tutelage.algorithms.base import Algorithm
from tutelage.functional import advantages, policy_losses, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class Opo(Algorithm):
    """REINFORCE with the baseline of least variance where a gradient's square grows with its answer's length: the
    group's mean reward, each weighted by its length.

    Strictly on-policy: no ratio, so one update a step. Left out: nothing. No KL and no entropy bonus, as in the paper.
    """

    min_group_size: ClassVar[int] = 2
    skips_zero: ClassVar[bool] = True

    type: str = "opo"

    def credit(self, experience: Experience) -> Credit:
        rewards_PG, lengths_B = (
            experience.rewards_PG,
            reductions.lengths(experience.sequence_A, experience.rewards_PG.numel()),
        )
        return experience.shared(
            advantages.length_centred(rewards_PG, lengths_B.view_as(rewards_PG), experience.valid_PG)
        )

    def loss(self, actions: Actions) -> Loss:
        terms_A = policy_losses.reinforce(actions.logprobs_A, actions.advantages_A) + self.regulariser(actions)
        return Loss(*reductions.constant_length_sum(terms_A), self.metrics(actions))
