"""`PreferenceLoss`: what is learned from answers that were judged. Each is its recipe's table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from tutelage.algorithms.base import action_sums
from tutelage.config import Part


@dataclass(frozen=True, slots=True)
class Answers:
    """Whole answers of a micro-batch, or of a step, and how they were judged. B answers, P pairs of them.

    | Field | Shape | Meaning |
    |---|---|---|
    | logprobs_B | [B] | log-probability of the answer under the policy, summed over its tokens; carries the gradient |
    | lengths_B | [B] int64 | its tokens |
    | reference_B | [B] or None | the same as logprobs_B under the frozen reference |
    | better_P, worse_P | [P] int64 or None | places in B; K ranked answers to one prompt have K (K - 1) / 2 pairs |
    | margins_P | [P] or None | by how much the one was judged better, as log-odds |
    | good_B | [B] bool or None | was it judged good? For answers that were judged one by one |
    | mismatched_B | [B] or None | log policy - log reference of answers to *other* prompts; detached |
    | dials | name: float | numbers that the loss turns between updates |
    """

    logprobs_B: Tensor
    lengths_B: Tensor
    reference_B: Tensor | None = None
    better_P: Tensor | None = None
    worse_P: Tensor | None = None
    margins_P: Tensor | None = None
    good_B: Tensor | None = None
    mismatched_B: Tensor | None = None
    dials: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def log_ratio_B(self) -> Tensor:
        """[B] log policy - log reference, in nats."""
        return self.logprobs_B - given(self.reference_B, "reference_B")

    def per_token(self, values_B: Tensor) -> Tensor:
        """[B] each answer's value over its length; an empty answer's as it is."""
        assert values_B.shape == self.lengths_B.shape, (values_B.shape, self.lengths_B.shape)
        return values_B / self.lengths_B.clamp(min=1)

    def pairs(self, values_B: Tensor) -> tuple[Tensor, Tensor]:
        """[P] and [P]: the values of the better and of the worse answers."""
        return values_B[given(self.better_P, "better_P")], values_B[given(self.worse_P, "worse_P")]

    def gaps(self, values_B: Tensor) -> Tensor:
        """[P] value of the better answer less that of the worse one."""
        better_P, worse_P = self.pairs(values_B)
        return better_P - worse_P


@dataclass(frozen=True, slots=True)
class PreferenceTerms:
    """A loss for each pair, or for each answer, not yet reduced: their unit.

    `metrics` are detached sums over the same unit, so divided by its count they are means.
    """

    losses: Tensor
    metrics: Mapping[str, Tensor]


class PreferenceLoss(Part, ABC):
    """A recipe's `loss` table. A user's own inherits it and is named by `type = "module:Class"`.

    Any of them can be joined with a supervised term: `sft` times -log policy of the good answer, averaged over the
    tokens of each answer (RPO, 2404.19733; ORPO, 2403.07691), once for each pair that it wins.
    """

    paired: ClassVar[bool] = True  # does it read pairs? If not, answers that were judged one by one
    coupled: ClassVar[bool] = False  # does the loss of one pair or answer read others of the step?

    type: str  # its name in a recipe
    sft: NonNegativeFloat = 0.0  # weight of the supervised term

    @property
    def needs_reference(self) -> bool:
        """Does it read `reference_B`? If not, no reference model is loaded."""
        return True

    @property
    def needs_mismatched(self) -> bool:
        """Does it read `mismatched_B`?"""
        return False

    @property
    def dials(self) -> Mapping[str, float]:
        """Numbers that it turns between updates, as they are at first. They are saved with a checkpoint."""
        return {}

    def turned(self, dials: Mapping[str, float], metrics: Mapping[str, float]) -> Mapping[str, float]:
        """The dials after a step with these metrics, which are means by now."""
        return dials

    @abstractmethod
    def rewards(self, answers: Answers) -> Tensor:
        """[B] what the loss compares or classifies: the implicit reward of each answer; carries the gradient."""

    @abstractmethod
    def loss(self, answers: Answers) -> PreferenceTerms:
        """The loss of each pair or answer. One that is `coupled` must be given the answers of the whole step.

        Only `logprobs_B` carries a gradient. So a step of many micro-batches can take it with respect to detached
        log-probabilities first, and then let each micro-batch carry its part on to the weights.
        """


class PairLoss(PreferenceLoss):
    """A loss of pairs: the better answer's implicit reward beside the worse one's."""

    @abstractmethod
    def of_pairs(self, chosen_P: Tensor, rejected_P: Tensor, answers: Answers) -> Tensor:
        """[P] the loss of each pair, given its rewards."""

    def extra_metrics(self, answers: Answers) -> Mapping[str, Tensor]:
        """[P] values to be recorded beside those that all have."""
        return {}

    def loss(self, answers: Answers) -> PreferenceTerms:
        chosen_P, rejected_P = answers.pairs(self.rewards(answers))
        losses_P = self.of_pairs(chosen_P, rejected_P, answers)
        if self.sft:
            losses_P = losses_P - self.sft * answers.pairs(answers.per_token(answers.logprobs_B))[0]
        metrics = action_sums(
            accuracy=chosen_P > rejected_P,
            margin=chosen_P - rejected_P,
            chosen_reward=chosen_P,
            rejected_reward=rejected_P,
            **self.extra_metrics(answers),
        )
        return PreferenceTerms(losses_P, metrics)


class AnswerLoss(PreferenceLoss):
    """A loss of single answers, good ones and bad: each one's implicit reward above a baseline of the step.

    `accuracy` is the share on their side of the baseline, `margin` the mean reward of good answers less that of bad
    ones. A step without good or without bad answers has no number for what it lacks.
    """

    paired: ClassVar[bool] = False
    coupled: ClassVar[bool] = True

    @abstractmethod
    def baseline(self, rewards_B: Tensor, answers: Answers) -> Tensor:
        """A scalar without gradient: where good answers are told from bad ones."""

    @abstractmethod
    def of_answers(self, above_B: Tensor, good_B: Tensor) -> Tensor:
        """[B] the loss of each answer, given its reward less the baseline."""

    def loss(self, answers: Answers) -> PreferenceTerms:
        good_B = given(answers.good_B, "good_B")
        rewards_B = self.rewards(answers)
        baseline = self.baseline(rewards_B.detach(), answers)
        above_B = rewards_B - baseline
        losses_B = self.of_answers(above_B, good_B)
        if self.sft:
            supervised_B = -answers.per_token(answers.logprobs_B)
            losses_B = losses_B + self.sft * torch.where(good_B, supervised_B, 0.0)
        metrics = action_sums(accuracy=(above_B > 0) == good_B, baseline=baseline.expand_as(above_B))
        return PreferenceTerms(losses_B, metrics | _means_by_side(rewards_B.detach(), good_B))


def _means_by_side(rewards_B: Tensor, good_B: Tensor) -> dict[str, Tensor]:
    """Mean rewards of good and bad answers; times B, since metrics are sums over all answers."""
    sides = {"chosen_reward": rewards_B[good_B], "rejected_reward": rewards_B[~good_B]}
    means = {name: len(rewards_B) * side.mean(dtype=torch.float32) for name, side in sides.items() if len(side)}
    if len(means) == 2:
        means["margin"] = means["chosen_reward"] - means["rejected_reward"]
    return means


def given(values: Tensor | None, name: str) -> Tensor:
    """What the stage owes a loss that reads it."""
    if values is None:
        raise ValueError(f"this loss reads Answers.{name}, and there is none: see PreferenceLoss.paired, needs_*")
    return values
