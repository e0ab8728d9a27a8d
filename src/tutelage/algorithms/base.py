"""`Algorithm`: how rewards become credit, and credit a loss. Each is its recipe's table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from tutelage.config import Part
from tutelage.errors import ConfigError
from tutelage.types import Actions, Loss


class Algorithm(Part, ABC):
    """A recipe's `algorithm` table. A user's own inherits it and is named by `type = "module:Class"`.

    What `behaviour_A` holds is the stage's affair: on a step that is wholly on-policy it passes the policy's
    own detached log-probabilities, so every ratio is 1 and no algorithm has a special case for it.
    """

    min_group_size: ClassVar[int] = 1  # completions per prompt below which the credit is always 0

    type: str  # its name in a recipe

    @property
    def needs_reference(self) -> bool:
        """Does the loss read `reference_A`? If not, no reference model is loaded."""
        return False

    @property
    def needs_zero_advantage(self) -> bool:
        """May a sample whose advantage is 0 add to the gradient? If not, the stage counts it and skips computing it."""
        return True

    @abstractmethod
    def credit(self, rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        """[P, G] the advantage of each sample, which all its tokens share.

        Args:
            rewards_PG: [P, G] what each sample's reward is; anything where it is invalid.
            valid_PG: [P, G] bool; invalid samples take no part in a baseline and get 0.
        """

    @abstractmethod
    def loss(self, actions: Actions) -> Loss:
        """The sum to be minimised with its unit, and metrics as detached sums over the actions."""

    def check_group_size(self, completions: int, where: str = "completions_per_prompt") -> None:
        """Raises ConfigError where so few completions of a prompt could never teach anything."""
        if completions < self.min_group_size:
            raise ConfigError(
                f"{where}: {completions} is too few: '{self.type}' compares the completions of a prompt, and "
                f"every advantage would be 0. Set it to at least {self.min_group_size}, or take the "
                "algorithm 'reinforce', which learns from single completions"
            )


def reference_of(actions: Actions) -> Tensor:
    """[A] the reference's log-probabilities, which an algorithm that needs a reference was promised."""
    if actions.reference_A is None:
        raise ValueError("this loss reads reference_A, and the batch has none: see Algorithm.needs_reference")
    return actions.reference_A


def action_sums(**values: Tensor) -> dict[str, Tensor]:
    """Metrics: each [A] tensor of values as its detached sum in fp32."""
    return {name: value.detach().sum(dtype=torch.float32) for name, value in values.items()}
