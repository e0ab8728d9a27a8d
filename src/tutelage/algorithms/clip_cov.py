"""Clip-Cov. Cui et al., 2025, The Entropy Mechanism of RL for Reasoning Language Models (2505.22617)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import NonNegativeFloat

from tutelage.algorithms.base import Algorithm
from tutelage.config import Share
from tutelage.functional import advantages, policy_losses, ratios, reductions, token_choice
from tutelage.types import Actions, Credit, Experience, Loss


class ClipCov(Algorithm):
    """GRPO's clipped surrogate, every token the same, without the gradient of a few tokens of high covariance between
    log-probability and advantage, drawn at random: those that take the entropy down fastest. Left out: nothing.
    """

    min_group_size: ClassVar[int] = 2

    type: str = "clip_cov"
    clip_low: NonNegativeFloat = 0.2
    clip_high: NonNegativeFloat = 0.2
    share: Share = 2e-4  # of the tokens; section 4.3
    least: float = 1.0  # covariance; section 4.3
    most: float = 5.0

    def credit(self, experience: Experience) -> Credit:
        return experience.shared(advantages.group_scaled(experience.rewards_PG, experience.valid_PG))

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        terms_A, clipped_A = policy_losses.clipped_surrogate(
            ratio_A, actions.advantages_A, self.clip_low, self.clip_high
        )
        covariance_A = token_choice.covariance(actions.logprobs_A, actions.advantages_A)
        open_A = covariance_A.masked_fill(clipped_A, -math.inf)
        chosen_A = token_choice.within(open_A, self.least, self.most, self.share)
        terms_A = torch.where(chosen_A, terms_A.detach(), terms_A) + self.regulariser(actions)
        metrics = self.metrics(actions, ratio=ratio_A, clipped=clipped_A, chosen=chosen_A)
        return Loss(*reductions.token_sum(terms_A), metrics)
