"""What a reward model learns from judged answers: a recipe's `loss` table of a `reward-model` stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final

import torch
from pydantic import NonNegativeFloat, model_validator
from torch import Tensor

from tutelage.algorithms.base import action_sums
from tutelage.config import Part, Share, build
from tutelage.functional import reductions, reward_losses
from tutelage.types import Loss


class RewardLoss(Part, ABC):
    """A recipe's `loss` table. A user's own inherits it and is named by `type = "module:Class"`."""

    type: str

    @property
    def compares(self) -> bool:
        """Does it learn from pairs of answers to one prompt? Else each answer has a score of its own."""
        return False

    @property
    def probabilities(self) -> bool:
        """Are judgements probabilities of being right, between 0 and 1?"""
        return False

    @abstractmethod
    def loss(self, scores_A: Tensor, judged_A: Tensor, group_A: Tensor) -> Loss:
        """The sum to be minimised with its unit.

        Args:
            scores_A: [A] what the model makes of each answer; carries the gradient.
            judged_A: [A] what it was judged to be worth.
            group_A: [A] int64 the prompt it answers.
        """


class BradleyTerry(RewardLoss):
    """-log sigmoid(better - worse), all pairs of a prompt weighing as much as one (InstructGPT, 2203.02155)."""

    type: str = "bradley-terry"
    margin: NonNegativeFloat = 0.0  # times the difference of the judgements (Llama 2, 2307.09288); 0: none
    centre: NonNegativeFloat = 0.0  # weight of (better + worse)^2; 0.01 in 2312.09244
    clamp: tuple[Share, Share] | None = None  # of judgements that are shares of wins; (0.4, 0.6) in 2212.08073

    @model_validator(mode="after")
    def _one_or_the_other(self) -> BradleyTerry:
        if self.clamp is not None and (self.margin or not self.clamp[0] < 0.5 < self.clamp[1]):
            raise ValueError("clamp: must be [below 0.5, above 0.5], and goes without a margin")
        return self

    @property
    def compares(self) -> bool:
        return True

    @property
    def probabilities(self) -> bool:
        return self.clamp is not None

    def loss(self, scores_A: Tensor, judged_A: Tensor, group_A: Tensor) -> Loss:
        better_P, worse_P, share_P = reward_losses.pairs_within(group_A, judged_A)
        pair, apart_P = (scores_A[better_P], scores_A[worse_P]), judged_A[better_P] - judged_A[worse_P]
        if self.clamp is None:
            terms_P = reward_losses.bradley_terry(*pair, self.margin * apart_P)
        else:
            terms_P = reward_losses.soft_bradley_terry(*pair, (0.5 + 0.5 * apart_P).clamp(*self.clamp))
        if self.centre:
            terms_P = terms_P + self.centre * reward_losses.off_centre(*pair)
        right_P = (scores_A[better_P] > scores_A[worse_P]).to(scores_A)
        # Metrics are means over answers: of each, the share of its pairs that stand in the right order.
        places_2P, nothing_A = torch.cat([better_P, worse_P]), torch.zeros_like(scores_A)
        right_A = nothing_A.index_add(0, places_2P, right_P.repeat(2))
        pairs_A = nothing_A.index_add(0, places_2P, torch.ones_like(right_P).repeat(2))
        metrics = action_sums(accuracy=right_A / pairs_A.clamp(min=1.0), mean_score=scores_A)
        return Loss((share_P * terms_P).sum(), "prompts", metrics)


class Regression(RewardLoss):
    """The squared error of each answer's score (HelpSteer2, 2406.08673)."""

    type: str = "regression"

    def loss(self, scores_A: Tensor, judged_A: Tensor, group_A: Tensor) -> Loss:
        terms_A = reward_losses.regression(scores_A, judged_A)
        return Loss(*reductions.token_sum(terms_A), action_sums(mean_score=scores_A))


class Outcome(RewardLoss):
    """The probability sigmoid(score) that an answer is right, or a step of it (2110.14168, 2305.20050)."""

    type: str = "outcome"

    @property
    def probabilities(self) -> bool:
        return True

    def loss(self, scores_A: Tensor, judged_A: Tensor, group_A: Tensor) -> Loss:
        terms_A = reward_losses.outcome(scores_A, judged_A)
        right_A = ((scores_A > 0) == (judged_A > 0.5)).to(scores_A)
        return Loss(*reductions.token_sum(terms_A), action_sums(accuracy=right_A, mean_score=scores_A))


REWARD_LOSSES: Final[Mapping[str, type[RewardLoss]]] = {
    "bradley-terry": BradleyTerry,
    "regression": Regression,
    "outcome": Outcome,
}


def build_reward_loss(table: object, where: str) -> RewardLoss:
    """The loss that a recipe's table declares. Raises ConfigError with the remedy."""
    return build(table, REWARD_LOSSES, RewardLoss, where)
