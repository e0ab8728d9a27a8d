"""TRPO, trust region policy optimisation. Schulman et al., 2015 (1502.05477)."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from tutelage.algorithms.base import Algorithm, refuse_idle
from tutelage.algorithms.critic import Critic
from tutelage.config import Share, TrustRegion
from tutelage.functional import advantages, policy_losses, ratios, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class Trpo(Algorithm):
    """Maximises the surrogate r A under a bound on the mean KL(behaviour || policy): a natural-gradient step as long as
    the bound allows, then a line search (`training/trust_region.py`).

    `baseline`: GAE (1506.02438) from a critic with a model of its own, which learns by gradient steps on the same
    samples; or, for language models, the group's mean and standard deviation, as in GRPO. Left out: the vine procedure.
    """

    type: str = "trpo"
    baseline: Literal["critic", "group"] = "critic"
    discount: Share = 1.0  # the paper's tasks have 0.99
    decay: Share = 0.95  # GAE came after the paper; its own returns are lambda 1
    whiten: bool = True
    region: TrustRegion = TrustRegion()
    critic: Critic = Critic(kind="model")

    @model_validator(mode="after")
    def _critic_apart(self) -> Trpo:
        if self.baseline == "group":
            why = "baseline = 'group' has no critic, and nothing reads this; leave it out, or set baseline = 'critic'"
            refuse_idle(self, ("critic", "discount", "decay", "whiten"), why)
        if self.critic.kind == "head":
            raise ValueError("critic.kind: a head moves the policy's own body, past the trust region; take 'model'")
        return self

    @property
    def needs_critic(self) -> Critic | None:
        return self.critic if self.baseline == "critic" else None

    @property
    def least_completions(self) -> int:
        return 2 if self.baseline == "group" else 1

    @property
    def trust_region(self) -> TrustRegion:
        return self.region

    def credit(self, experience: Experience) -> Credit:
        if self.baseline == "group":
            return experience.shared(advantages.group_scaled(experience.rewards_PG, experience.valid_PG))
        return self.critic.credit(experience, self.discount, self.decay, self.whiten)

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        terms_A = policy_losses.surrogate(ratio_A, actions.advantages_A) + self.regulariser(actions)
        return Loss(*reductions.token_sum(terms_A), self.metrics(actions, ratio=ratio_A))
