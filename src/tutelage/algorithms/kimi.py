"""Kimi k1.5's policy optimisation: a variant of online policy mirror descent. Kimi Team, 2025 (2501.12599)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import NonNegativeFloat, PositiveFloat, model_validator

from tutelage.algorithms.base import Algorithm, refuse_idle
from tutelage.functional import advantages, policy_losses, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class Kimi(Algorithm):
    """-A log policy + temperature / 2 * log(policy / behaviour)^2 of whole answers; A = R - mean of the group.

    The length reward of section 2.3.3 is added with `length_weight`: 0.5 for the group's shortest answer, -0.5 for its
    longest, and for wrong answers (reward below `correct`) no more than 0. Left out: sampling prompts by their success,
    partial rollouts.
    """

    min_group_size: ClassVar[int] = 2
    weighs_answers: ClassVar[bool] = True

    type: str = "kimi"
    temperature: PositiveFloat = 0.1  # tau of equation 2, which the paper gives no value
    length_weight: NonNegativeFloat = 0.0  # the paper warms it up, and gives no value
    correct: float = 1.0  # the least reward of a right answer

    @model_validator(mode="after")
    def _lengths_know_right_from_wrong(self) -> Kimi:
        if not self.length_weight:
            refuse_idle(self, ("correct",), "only the length reward reads it; leave it out, or give a length_weight")
        return self

    def credit(self, experience: Experience) -> Credit:
        rewards_PG, valid_PG = experience.rewards_PG, experience.valid_PG
        if self.length_weight:
            lengths_B = reductions.lengths(experience.sequence_A, rewards_PG.numel())
            lengths_PG = lengths_B.view_as(rewards_PG)
            bonus_PG = advantages.length_rewards(lengths_PG, rewards_PG >= self.correct, valid_PG)
            rewards_PG = torch.where(valid_PG, rewards_PG + self.length_weight * bonus_PG, rewards_PG)
        return experience.shared(advantages.group_centred(rewards_PG, valid_PG))

    def loss(self, actions: Actions) -> Loss:
        sequence_A, sequences = actions.sequence_A, actions.sequences
        log_ratio_A = actions.logprobs_A - actions.behaviour_A
        log_ratio_B = reductions.sequence_sums(log_ratio_A, sequence_A, sequences)
        advantages_B = reductions.sequence_means(actions.advantages_A, sequence_A, sequences)
        terms_B = policy_losses.squared_mirror(log_ratio_B, advantages_B, self.temperature)
        total = terms_B.sum() + self.regulariser(actions).sum()
        return Loss(total, "sequences", self.metrics(actions, ratio=log_ratio_A.exp()))
