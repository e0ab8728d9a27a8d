"""PRIME, process reinforcement through implicit rewards. Cui et al., 2025 (2502.01456), equation 5."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import NonNegativeFloat

from tutelage.algorithms.base import Algorithm
from tutelage.config import Share
from tutelage.functional import advantages, policy_losses, ratios, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class Prime(Algorithm):
    """PPO's clipped surrogate by token. A: the leave-one-out advantage of the outcome, for all tokens of an answer, and
    the return of each token's own process rewards above the mean one of the group's other answers.

    The outcome is what an answer earned beside its process rewards; how they weigh is up to the stage's rewards, 1 to 1
    in the paper. Any reward that tells of single tokens will do; the paper's is `implicit`. The authors' code scales
    each process reward, though not its baseline, by G / (G - 1) and whitens the advantages; the equation does neither.
    Left out: the update of the implicit reward's model on the step's own samples (`label`, `preference` and `rl` stages
    in turn have it learn between rounds), and prompts filtered by their share of right answers.
    """

    min_group_size: ClassVar[int] = 2
    skips_zero: ClassVar[bool] = True
    needs_process: ClassVar[bool] = True

    type: str = "prime"
    discount: Share = 1.0  # of later process rewards
    clip_low: NonNegativeFloat = 0.2  # PPO's (1707.06347)
    clip_high: NonNegativeFloat = 0.2

    def credit(self, experience: Experience) -> Credit:
        rewards_PG, valid_PG, sequence_A = experience.rewards_PG, experience.valid_PG, experience.sequence_A
        process_A = experience.process_A
        if process_A is None:  # no answer of the step had a token
            process_A = torch.zeros_like(experience.rewards_A)
        outcome_PG = rewards_PG - reductions.sequence_sums(process_A, sequence_A, rewards_PG.numel()).view_as(
            rewards_PG
        )
        outcome = experience.shared(advantages.leave_one_out(outcome_PG, valid_PG))
        process = advantages.process_leave_one_out(process_A, sequence_A, valid_PG, self.discount)
        return Credit(outcome.advantages_A + process)

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        terms_A, clipped_A = policy_losses.clipped_surrogate(
            ratio_A, actions.advantages_A, self.clip_low, self.clip_high
        )
        metrics = self.metrics(actions, ratio=ratio_A, clipped=clipped_A)
        return Loss(*reductions.token_sum(terms_A + self.regulariser(actions)), metrics)
