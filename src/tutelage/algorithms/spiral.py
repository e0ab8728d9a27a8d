"""SPIRAL's role-conditioned advantages. Liu et al., 2025, *SPIRAL: Self-Play on Zero-Sum Games* (2506.24119)."""

from __future__ import annotations

from typing import ClassVar

from tutelage.algorithms.base import Algorithm
from tutelage.functional import advantages, policy_losses, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class Spiral(Algorithm):
    """REINFORCE for self-play: each move is credited with what its role earned in the game, less the role's baseline.

    One policy plays both sides, whose expectations differ (who begins has the better game): under a common baseline the
    difference would be noise in every gradient. The baseline here is the mean of what the role earned in the step's
    *other* games. The paper has a moving average for each game and role, b <- 0.95 b + 0.05 R, read before the game at
    hand is added. Either knows nothing of the game that it is a baseline for, so both have the same expected gradient;
    this one has no state, and no lag behind a policy that changes.

    Without self-play all samples of a step are one role. There is no importance ratio, as in the paper: with several
    updates a step it is biased.
    """

    skips_zero: ClassVar[bool] = True

    type: str = "spiral"

    def credit(self, experience: Experience) -> Credit:
        role_P, episode_PG = experience.parts
        return experience.shared(
            advantages.role_centred(experience.rewards_PG, experience.valid_PG, role_P, episode_PG)
        )

    def loss(self, actions: Actions) -> Loss:
        terms_A = policy_losses.reinforce(actions.logprobs_A, actions.advantages_A) + self.regulariser(actions)
        return Loss(*reductions.constant_length_sum(terms_A), self.metrics(actions))
