"""ReMax. Li et al., 2023, A Simple, Effective and Efficient RL Method for Aligning LLMs (2310.10505)."""

from __future__ import annotations

from typing import ClassVar

import torch

from tutelage.algorithms.base import Algorithm, promised
from tutelage.functional import policy_losses, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class Remax(Algorithm):
    """REINFORCE whose baseline is the reward of the greedy answer to the same prompt.

    The gradient of the expected reward, with any number of completions: the baseline is no sample. With `kl` in the
    reward, as in the paper; there the greedy answer's own penalty is left out of the baseline. Left out: nothing else.
    """

    skips_zero: ClassVar[bool] = True

    type: str = "remax"

    @property
    def needs_greedy(self) -> bool:
        return True

    def credit(self, experience: Experience) -> Credit:
        greedy_P = promised(experience.greedy_P, "greedy_P", "needs_greedy")
        advantages_PG = experience.rewards_PG - greedy_P[:, None]
        return experience.shared(torch.where(experience.valid_PG, advantages_PG, 0.0))

    def loss(self, actions: Actions) -> Loss:
        terms_A = policy_losses.reinforce(actions.logprobs_A, actions.advantages_A) + self.regulariser(actions)
        return Loss(*reductions.constant_length_sum(terms_A), self.metrics(actions))
