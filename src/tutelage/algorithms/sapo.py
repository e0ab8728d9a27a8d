"""SAPO, soft adaptive policy optimisation. Gao et al., 2025 (2511.20347)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveFloat

from tutelage.algorithms.base import Algorithm
from tutelage.functional import advantages, policy_losses, ratios, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class Sapo(Algorithm):
    """GRPO whose clip is a soft gate: a token's gradient fades as its ratio leaves 1, and faster where A < 0.

    On-policy the gate is open and this is GRPO without an anchor. Left out: nothing.
    """

    min_group_size: ClassVar[int] = 2
    skips_zero: ClassVar[bool] = True

    type: str = "sapo"
    raised: PositiveFloat = 1.0  # the gate's temperature where A > 0
    lowered: PositiveFloat = 1.05  # where not: the probability that is taken away goes to all other tokens

    def credit(self, experience: Experience) -> Credit:
        return experience.shared(advantages.group_scaled(experience.rewards_PG, experience.valid_PG))

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        terms_A = policy_losses.gated_surrogate(ratio_A, actions.advantages_A, self.raised, self.lowered)
        terms_A = terms_A + self.regulariser(actions)
        metrics = self.metrics(actions, ratio=ratio_A)
        return Loss(*reductions.sequence_mean_sum(terms_A, actions.sequence_A, actions.sequences), metrics)
