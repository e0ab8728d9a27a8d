"""On-policy distillation: the student's own samples, judged token by token by a teacher (2306.13649, 2306.08543)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat

from tutelage.algorithms.base import Algorithm, promised
from tutelage.functional import kl, policy_losses, ratios, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class Distillation(Algorithm):
    """Lowers KL(policy || teacher) of the next token, where the policy itself has come. The teacher is the reference.

    `reference = { model = NAME }` of the stage says who that is. `exact`: the sum over the vocabulary, as a loss; no
    reward is read. `k1`, in the reward: each token is worth log teacher - log policy, at once (MiniLLM's single-step
    part, with the clipped surrogate), which has the same gradient in expectation and needs no full logits. Rewards are
    recorded and not learned from; for both, take any other algorithm with `kl` above 0 and the teacher as reference
    (KDRL, 2506.02208). Left out: GKD's other divergences, and MiniLLM's return of later tokens.
    """

    skips_zero: ClassVar[bool] = True

    type: str = "distillation"
    kl: PositiveFloat = 1.0
    kl_in: Literal["reward", "loss"] = "loss"
    kl_estimator: Literal["k1", "exact"] = "exact"  # type: ignore[assignment]  # fewer of the family's
    clip_low: NonNegativeFloat = 0.2  # PPO's (1707.06347); on-policy nothing is clipped
    clip_high: NonNegativeFloat = 0.2

    def credit(self, experience: Experience) -> Credit:
        if self.kl_in == "loss":
            return Credit(torch.zeros_like(experience.behaviour_A))
        teacher_A = promised(experience.reference_A, "reference_A", "needs_reference")
        return Credit(-self.kl * kl.k1(experience.behaviour_A, teacher_A))

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        surrogate_A, clipped_A = policy_losses.clipped_surrogate(
            ratio_A, actions.advantages_A, self.clip_low, self.clip_high
        )
        terms_A = surrogate_A + self.regulariser(actions)
        return Loss(*reductions.token_sum(terms_A), self.metrics(actions, ratio=ratio_A, clipped=clipped_A))
