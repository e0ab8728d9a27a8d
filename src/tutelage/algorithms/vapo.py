"""VAPO, value-model-based augmented PPO. Yue et al., 2025 (2504.05118)."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from tutelage.algorithms.base import Algorithm, promised
from tutelage.algorithms.critic import Critic
from tutelage.config import Share
from tutelage.functional import policy_losses, ratios, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class Vapo(Algorithm):
    """PPO with a critic that learns first, alone, and by lambda 1; the policy's lambda grows with the answer's length.

    Every token the same, a higher clip above, and `imitation` times the negative log-likelihood of right answers,
    averaged over their tokens' share of the batch. Left out: nothing; group sampling is `completions_per_prompt`.
    """

    type: str = "vapo"
    discount: Share = 1.0
    alpha: PositiveFloat = 0.05  # lambda = 1 - 1 / (alpha * length), no less than 0; section 4.2
    clip_low: NonNegativeFloat = 0.2  # section 5.1
    clip_high: NonNegativeFloat = 0.28
    imitation: NonNegativeFloat = 0.1  # section 5.1
    correct: float = 1.0  # the least reward of a right answer
    whiten: bool = True
    critic: Critic = Critic(kind="model", decay=1.0, warmup=50)  # section 5.1

    @property
    def needs_critic(self) -> Critic:
        return self.critic

    def credit(self, experience: Experience) -> Credit:
        length_B = reductions.lengths(experience.sequence_A, len(experience.after_B))
        decay_B: Tensor = 1.0 - 1.0 / (self.alpha * length_B.clamp(min=1))
        return self.critic.credit(experience, self.discount, decay_B.clamp(min=0.0), self.whiten)

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        terms_A, clipped_A = policy_losses.clipped_surrogate(
            ratio_A, actions.advantages_A, self.clip_low, self.clip_high
        )
        right_A = promised(actions.rewards_A, "rewards_A", "loss") >= self.correct
        terms_A = terms_A - self.imitation * right_A * actions.logprobs_A
        metrics = self.metrics(actions, ratio=ratio_A, clipped=clipped_A)
        return Loss(*reductions.token_sum(terms_A + self.regulariser(actions)), metrics)
