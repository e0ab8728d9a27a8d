"""`Critic`: the table of the algorithms that learn a value function beside the policy."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator
from torch import Tensor

from tutelage.algorithms.base import action_sums, promised
from tutelage.config import Part, Share
from tutelage.functional import advantages, reductions, returns, value_losses
from tutelage.types import Actions, Credit, Experience, Loss


class Critic(Part):
    """How values are made and learned."""

    kind: Literal["head", "model"] = "head"  # on the policy's own body, or a model of its own that begins as its copy
    start: str | None = None  # a reward-model stage, or a folder, for a model of its own to begin as (InstructGPT)
    weight: NonNegativeFloat = 0.5  # of its squared error in the loss; baselines' code, PPO's paper leaves c1 open
    clip: PositiveFloat | None = None  # how far a value may move from its prediction; 0.2 in baselines' code
    decay: Share | None = None  # lambda of the returns that it learns; None: the policy's
    lr: PositiveFloat | None = None  # None: the policy's
    warmup: NonNegativeInt = 0  # steps in which it learns alone

    @model_validator(mode="after")
    def _start_of_its_own(self) -> Critic:
        if self.start is not None and self.kind != "model":
            raise ValueError("start: a head on the policy's body begins at 0; set kind = 'model'")
        return self

    def credit(self, experience: Experience, discount: float, decay: float | Tensor, whiten: bool) -> Credit:
        """Advantages by GAE, and the returns that the critic shall learn, by its own lambda.

        Args:
            decay: lambda of the policy's advantages; one for all, or [B] one for each sequence.
            whiten: advantages to mean 0 and standard deviation 1 over all actions.
        """
        values_A = promised(experience.values_A, "values_A", "critic")
        of = experience.rewards_A, values_A, experience.sequence_A, experience.after_B
        advantages_A = returns.gae(*of, discount, decay)
        own_A = advantages_A if self.decay is None else returns.gae(*of, discount, self.decay)
        return Credit(advantages.whitened(advantages_A) if whiten else advantages_A, values_A + own_A)

    def loss(self, actions: Actions) -> Loss:
        """Its squared errors, averaged over all actions."""
        values_A = promised(actions.values_A, "values_A", "critic")
        returns_A = promised(actions.returns_A, "returns_A", "critic")
        if self.clip is None:
            errors_A = value_losses.squared(values_A, returns_A)
        else:
            predicted_A = promised(actions.predicted_A, "predicted_A", "critic")
            errors_A = value_losses.clipped_squared(values_A, predicted_A, returns_A, self.clip)
        return Loss(*reductions.token_sum(self.weight * errors_A), action_sums(value_loss=errors_A))
