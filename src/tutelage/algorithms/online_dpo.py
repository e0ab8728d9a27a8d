"""Online DPO: the policy's own answers, ranked as they come. Guo et al., 2024 (2402.04792)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import PositiveFloat

from tutelage.algorithms.base import Algorithm, promised
from tutelage.functional.preference_losses import dpo
from tutelage.functional.reductions import lengths, sequence_sums
from tutelage.types import Actions, Credit, Experience, Loss


class OnlineDpo(Algorithm):
    """DPO's loss (2305.18290) on the best and the worst answer of each group, by whatever reward ranks them.

    The paper has two answers and a judge that chooses; of more, all between are left alone. A group whose answers
    earned the same teaches nothing. The reference is DPO's, so `beta` is the anchor's weight. Left out: nothing.
    """

    min_group_size: ClassVar[int] = 2
    weighs_answers: ClassVar[bool] = True
    skips_zero: ClassVar[bool] = True
    compares: ClassVar[bool] = True

    type: str = "online_dpo"
    beta: PositiveFloat = 0.1  # the paper's

    @property
    def needs_reference(self) -> bool:
        return True

    def credit(self, experience: Experience) -> Credit:
        """1 for the best answer of a group, -1 for the worst, 0 for the others."""
        rewards_PG = experience.rewards_PG
        lengths_PG = lengths(experience.sequence_A, rewards_PG.numel()).view_as(rewards_PG)
        invalid_PG = ~experience.valid_PG | (lengths_PG == 0)  # an empty answer has no token to be learned by
        best_P = rewards_PG.masked_fill(invalid_PG, -torch.inf).argmax(1)
        worst_P = rewards_PG.masked_fill(invalid_PG, torch.inf).argmin(1)
        place_P = torch.arange(len(rewards_PG))
        apart_P = (rewards_PG[place_P, best_P] > rewards_PG[place_P, worst_P]) & ~invalid_PG.all(1)
        chosen_PG = torch.zeros_like(rewards_PG)
        chosen_PG[place_P, best_P] += apart_P.to(rewards_PG)
        chosen_PG[place_P, worst_P] -= apart_P.to(rewards_PG)
        return experience.shared(chosen_PG)

    def loss(self, actions: Actions) -> Loss:
        reference_A = promised(actions.reference_A, "reference_A", "needs_reference")
        of = actions.sequence_A, actions.sequences
        sign_B = sequence_sums(actions.advantages_A, *of).sign()
        policy_B, reference_B = (sequence_sums(values_A, *of) for values_A in (actions.logprobs_A, reference_A))
        best, worst = sign_B > 0, sign_B < 0  # one of each for every group, in the same order
        losses_P = dpo(policy_B[best], policy_B[worst], reference_B[best], reference_B[worst], self.beta)
        won_P = (policy_B - reference_B)[best] > (policy_B - reference_B)[worst]
        metrics = self.metrics(actions, accuracy=won_P.float().mean().expand_as(actions.logprobs_A))
        return Loss(losses_P.sum() + self.regulariser(actions).sum(), "prompts", metrics)
