"""A2C, advantage actor-critic: the synchronous form of A3C. Mnih et al., 2016 (1602.01783)."""

from __future__ import annotations

from pydantic import NonNegativeFloat

from tutelage.algorithms.base import Algorithm
from tutelage.algorithms.critic import Critic
from tutelage.config import Share
from tutelage.functional import policy_losses, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class A2c(Algorithm):
    """-A log policy less an entropy bonus, averaged over all actions; the critic's loss is its own.

    A is the n-step return less the value: GAE with lambda 1, over as many steps as the stage collects. One update a
    step; there is no ratio. Left out: asynchronous actors, RMSProp.
    """

    type: str = "a2c"
    discount: Share = 0.99  # section 5.1
    decay: Share = 1.0  # n-step returns
    entropy_bonus: NonNegativeFloat = 0.01  # section 5.1
    whiten: bool = False
    critic: Critic = Critic()

    @property
    def needs_critic(self) -> Critic:
        return self.critic

    def credit(self, experience: Experience) -> Credit:
        return self.critic.credit(experience, self.discount, self.decay, self.whiten)

    def loss(self, actions: Actions) -> Loss:
        terms_A = policy_losses.reinforce(actions.logprobs_A, actions.advantages_A)
        return Loss(*reductions.token_sum(terms_A + self.regulariser(actions)), self.metrics(actions))
