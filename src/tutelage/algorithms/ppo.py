"""PPO, proximal policy optimisation. Schulman et al., 2017 (1707.06347)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from tutelage.algorithms.base import Algorithm
from tutelage.algorithms.critic import Critic
from tutelage.config import Share
from tutelage.functional import kl, policy_losses, ratios, reductions
from tutelage.types import Actions, Credit, Experience, Loss


class Ppo(Algorithm):
    """Clipped surrogate, averaged over all actions, of GAE's advantages (1506.02438); the critic's loss is its own.

    Section 4 of the paper, a penalty on the KL from the behaviour policy, instead of the clip or beside it: of fixed
    weight or, with `penalty_target`, doubled after a step that moved more than 1.5 times as far, and halved after one
    that moved less than 1 / 1.5 times. `clip_dual` bounds the loss where A < 0 (1912.09729). Left out: nothing.
    """

    type: str = "ppo"
    discount: Share = 1.0  # InstructGPT's (2203.02155); the paper's control tasks have 0.99
    decay: Share = 0.95  # the paper's lambda
    clip_low: NonNegativeFloat = 0.2  # the paper's epsilon
    clip_high: NonNegativeFloat = 0.2
    clip_dual: Annotated[float, Field(gt=1.0)] | None = None  # 3 in 1912.09729
    penalty: NonNegativeFloat = 0.0  # weight of KL(behaviour || policy), the paper's beta
    penalty_target: PositiveFloat | None = None  # the paper's d_targ: 0.003, 0.01 or 0.03 nats
    whiten: bool = True  # as in baselines' code; the paper does not say
    critic: Critic = Critic()

    @model_validator(mode="after")
    def _target_needs_penalty(self) -> Ppo:
        if self.penalty_target and not self.penalty:
            raise ValueError(
                "penalty_target: there is no penalty to adapt; set penalty to its first weight, such as 1.0"
            )
        return self

    @property
    def needs_critic(self) -> Critic:
        return self.critic

    @property
    def dials(self) -> Mapping[str, float]:
        return {"penalty": self.penalty} if self.penalty else {}

    def turned(self, dials: Mapping[str, float], metrics: Mapping[str, float]) -> Mapping[str, float]:
        if self.penalty_target is None or "moved" not in metrics:
            return dials
        far, near = metrics["moved"] > 1.5 * self.penalty_target, metrics["moved"] < self.penalty_target / 1.5
        return {"penalty": dials["penalty"] * (2.0 if far else 0.5 if near else 1.0)}

    def credit(self, experience: Experience) -> Credit:
        return self.critic.credit(experience, self.discount, self.decay, self.whiten)

    def loss(self, actions: Actions) -> Loss:
        ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
        terms_A, clipped_A = policy_losses.clipped_surrogate(
            ratio_A, actions.advantages_A, self.clip_low, self.clip_high, self.clip_dual
        )
        moved_A = kl.k3(actions.behaviour_A, actions.logprobs_A)
        if self.penalty:
            terms_A = terms_A + actions.dials["penalty"] * moved_A
        metrics = self.metrics(actions, ratio=ratio_A, clipped=clipped_A, moved=moved_A)
        return Loss(*reductions.token_sum(terms_A + self.regulariser(actions)), metrics)
