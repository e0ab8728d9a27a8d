"""KL-Cov. Cui et al., 2025, The Entropy Mechanism of RL for Reasoning Language Models (2505.22617)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import NonNegativeFloat

from tutelage.algorithms.base import Algorithm
from tutelage.config import Share
from tutelage.functional import advantages, policy_losses, ratios, reductions, token_choice
from tutelage.types import Actions, Credit, Experience, Loss


class KlCov(Algorithm):
    """The surrogate r A of GRPO's advantages, unclipped, every token the same; the tokens of highest covariance between
    log-probability and advantage are held to the behaviour policy by |log r|, as in the authors' code. Left out:
    nothing.
    """

    min_group_size: ClassVar[int] = 2

    type: str = "kl_cov"
    share: Share = 2e-3  # of the tokens; section 4.3 has 2e-3 for 7B and 2e-4 for 32B parameters
    penalty: NonNegativeFloat = 1.0  # section 4.3

    def credit(self, experience: Experience) -> Credit:
        return experience.shared(advantages.group_scaled(experience.rewards_PG, experience.valid_PG))

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        terms_A = policy_losses.surrogate(ratio_A, actions.advantages_A)
        covariance_A = token_choice.covariance(actions.logprobs_A, actions.advantages_A)
        chosen_A = token_choice.largest(covariance_A, self.share)
        moved_A = (actions.logprobs_A - actions.behaviour_A).abs()
        terms_A = torch.where(chosen_A, terms_A + self.penalty * moved_A, terms_A) + self.regulariser(actions)
        return Loss(*reductions.token_sum(terms_A), self.metrics(actions, ratio=ratio_A, chosen=chosen_A))
