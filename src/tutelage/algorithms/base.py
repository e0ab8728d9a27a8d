"""`Algorithm`: how experience becomes credit, and credit a loss. Each is its recipe's table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import torch
from pydantic import NonNegativeFloat, model_validator
from torch import Tensor

from tutelage.config import Part, TrustRegion
from tutelage.errors import ConfigError
from tutelage.functional import kl
from tutelage.functional.reductions import sequence_sums
from tutelage.types import Actions, Credit, Experience, Loss

if TYPE_CHECKING:
    from tutelage.algorithms.critic import Critic

_ESTIMATORS: Final[Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = {"k1": kl.k1, "k2": kl.k2, "k3": kl.k3}

_OBSERVED: Final[ContextVar[dict[str, Tensor] | None]] = ContextVar("observed", default=None)


@contextmanager
def observed() -> Generator[dict[str, Tensor]]:
    """Fills a table with the [A] values whose sums the losses within report: ratio, clipped, ..."""
    values_A = dict[str, Tensor]()
    token = _OBSERVED.set(values_A)
    try:
        yield values_A
    finally:
        _OBSERVED.reset(token)


class Algorithm(Part, ABC):
    """A recipe's `algorithm` table. A user's own inherits it and is named by `type = "module:Class"`.

    What `behaviour_A` holds is the stage's affair: on a step that is wholly on-policy it passes the policy's
    own detached log-probabilities, so every ratio is 1 and no algorithm has a special case for it.

    Every algorithm can be anchored to a reference policy, by a KL penalty in the reward or in the loss, and kept from
    narrowing by an entropy bonus: those keys are here.
    """

    min_group_size: ClassVar[int] = 1  # completions per prompt below which the credit is always 0
    weighs_answers: ClassVar[bool] = False  # is its ratio the whole answer's, and no token's?
    compares: ClassVar[bool] = False  # does the loss of one answer read others of its group?
    skips_zero: ClassVar[bool] = False  # does a sample of advantage 0 add nothing to the policy's term of the loss?
    needs_process: ClassVar[bool] = False  # is it nothing of its own without rewards that tell of single tokens?

    type: str  # its name in a recipe
    kl: NonNegativeFloat = 0.0  # weight of KL(policy || reference); 0 needs no reference model
    kl_in: Literal["reward", "loss"] = "reward"
    kl_estimator: Literal["k1", "k2", "k3", "k3_unbiased", "exact"] = "k1"
    entropy_bonus: NonNegativeFloat = 0.0  # weight of the entropy, in nats

    @model_validator(mode="after")
    def _refuse_what_has_no_effect(self) -> Algorithm:
        if self.kl and self.kl_in == "loss" and self.kl_estimator == "k1":
            raise ValueError(
                "kl_estimator: k1 in the loss has no gradient in expectation; take k2, k3 or exact, or kl_in = 'reward'"
            )
        if self.kl and self.kl_in == "reward" and self.kl_estimator in ("k3_unbiased", "exact"):
            raise ValueError(
                f"kl_estimator: {self.kl_estimator} is for kl_in = 'loss'; in the reward k1 gives the KL's gradient"
            )
        return self

    @property
    def least_completions(self) -> int:
        """`min_group_size`, where no option decides otherwise."""
        return self.min_group_size

    @property
    def needs_reference(self) -> bool:
        """Does the credit or the loss read `reference_A`? If not, no reference model is loaded."""
        return self.kl > 0.0

    @property
    def needs_critic(self) -> Critic | None:
        """The critic whose values the credit reads; the stage adds its loss. None: no critic is made."""
        return None

    @property
    def needs_greedy(self) -> bool:
        """Does the credit read `greedy_P`? If so, a greedy answer to each prompt is sampled and rewarded as well."""
        return False

    @property
    def needs_expert(self) -> bool:
        """Is one answer of every group the environment's demonstration, instead of the policy's own?"""
        return False

    @property
    def trust_region(self) -> TrustRegion | None:
        """The bound of the update, for one by natural gradient and line search. None: a gradient step."""
        return None

    @property
    def dials(self) -> Mapping[str, float]:
        """Numbers that it turns between updates, as they are at first. They are saved with a checkpoint."""
        return {}

    def turned(self, dials: Mapping[str, float], metrics: Mapping[str, float]) -> Mapping[str, float]:
        """The dials after a step with these metrics."""
        return dials

    def informative(self, rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        """[P] bool: which groups to learn from. Where some are not, the stage asks further prompts in their place."""
        return torch.ones(len(rewards_PG), dtype=torch.bool)

    @property
    def needs_zero_advantage(self) -> bool:
        """May a sample whose advantage is 0 add to the gradient? If not, the stage counts it and skips computing it."""
        in_loss = self.kl > 0.0 and self.kl_in == "loss"
        return not self.skips_zero or in_loss or self.entropy_bonus > 0.0 or self.needs_critic is not None

    @abstractmethod
    def credit(self, experience: Experience) -> Credit:
        """What each action is worth. Invalid samples take no part in a baseline; they have no actions."""

    @abstractmethod
    def loss(self, actions: Actions) -> Loss:
        """The policy's sum to be minimised with its unit, and metrics as detached sums over the actions."""

    def penalised(self, experience: Experience) -> Experience:
        """The experience with the anchor's penalty taken off its rewards, where that is its place."""
        if not self.kl or self.kl_in != "reward":
            return experience
        reference_A = promised(experience.reference_A, "reference_A", "needs_reference")
        penalty_A = self.kl * _ESTIMATORS[self.kl_estimator](experience.behaviour_A, reference_A)
        penalty_B = sequence_sums(penalty_A, experience.sequence_A, experience.rewards_PG.numel())
        rewards_PG = experience.rewards_PG - penalty_B.view_as(experience.rewards_PG)
        return replace(experience, rewards_A=experience.rewards_A - penalty_A, rewards_PG=rewards_PG)

    def regulariser(self, actions: Actions) -> Tensor:
        """[A] what the anchor and the entropy bonus add to the loss's terms; 0 where neither is in the loss."""
        terms_A = torch.zeros_like(actions.logprobs_A)
        if self.kl and self.kl_in == "loss":
            terms_A = terms_A + self.kl * self._anchor(actions)
        if self.entropy_bonus:
            terms_A = terms_A - self.entropy_bonus * actions.entropy_A
        return terms_A

    def _anchor(self, actions: Actions) -> Tensor:
        """[A] the estimate of KL(policy || reference) that stands in the loss."""
        if self.kl_estimator == "exact":
            return promised(actions.kl_A, "kl_A", "needs_reference")
        reference_A = promised(actions.reference_A, "reference_A", "needs_reference")
        if self.kl_estimator == "k3_unbiased":
            return kl.k3_unbiased(actions.logprobs_A, reference_A, actions.behaviour_A)
        return _ESTIMATORS[self.kl_estimator](actions.logprobs_A, reference_A)

    def metrics(self, actions: Actions, **values_A: Tensor) -> dict[str, Tensor]:
        """Detached sums over the actions: entropy, KL where there is a reference, and the values given."""
        if actions.reference_A is not None:
            values_A["kl"] = kl.k3(actions.logprobs_A, actions.reference_A)
        return action_sums(entropy=actions.entropy_A, **values_A)

    def check_group_size(self, completions: int, where: str = "completions_per_prompt") -> None:
        """Raises ConfigError where so few completions of a prompt could never teach anything."""
        if completions < self.least_completions:
            raise ConfigError(
                f"{where}: {completions} is too few: '{self.type}' compares the completions of a prompt, and "
                f"every advantage would be 0. Set it to at least {self.least_completions}, or take the "
                "algorithm 'reinforce', which learns from single completions"
            )


def refuse_idle(algorithm: Algorithm, keys: Sequence[str], why: str) -> None:
    """Raises ValueError where a recipe gives a key that nothing would read."""
    for key in keys:
        if key in algorithm.model_fields_set:
            raise ValueError(f"{key}: {why}")


def promised(values: Tensor | None, name: str, by: str) -> Tensor:
    """What the stage owes an algorithm that asked for it."""
    if values is None:
        raise ValueError(f"this reads {name}, and there is none: see Algorithm.{by}")
    return values


def action_sums(**values: Tensor) -> dict[str, Tensor]:
    """Metrics: each [A] tensor of values as its detached sum in fp32."""
    if (seen := _OBSERVED.get()) is not None:
        seen.update({name: value.detach() for name, value in values.items()})
    return {name: value.detach().sum(dtype=torch.float32) for name, value in values.items()}
