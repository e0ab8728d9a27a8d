"""Losses of answers that were judged one by one, good or bad: KTO, BCO, cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import PositiveFloat
from torch import Tensor

from tutelage.algorithms.preferences import AnswerLoss, Answers, given
from tutelage.functional import preference_losses


class Kto(AnswerLoss):
    """KTO, Kahneman-Tversky optimisation. Ethayarajh et al., 2024 (2402.01306), section 4.

    The reference point z0 is KL(policy || reference), estimated by the mean log ratio of answers to other prompts of
    the step, no less than 0, without gradient. With `reference_point = "zero"` it is 0, and this is the unpaired
    APO-zero (2408.06266). Left out: weights that follow from the shares of good and bad answers; the paper sets them by
    hand.
    """

    type: str = "kto"
    beta: PositiveFloat = 0.1  # the paper's, unless tuned
    desirable: PositiveFloat = 1.0  # the paper's lambda_D: desirable * good / (undesirable * bad) within 1 and 4/3
    undesirable: PositiveFloat = 1.0  # lambda_U
    reference_point: Literal["kl", "zero"] = "kl"

    @property
    def needs_mismatched(self) -> bool:
        return self.reference_point == "kl"

    def rewards(self, answers: Answers) -> Tensor:
        return self.beta * answers.log_ratio_B

    def baseline(self, rewards_B: Tensor, answers: Answers) -> Tensor:
        if self.reference_point == "zero":
            return rewards_B.new_zeros(())
        mismatched_B = given(answers.mismatched_B, "mismatched_B").detach()
        return self.beta * (mismatched_B.sum() / max(1, len(mismatched_B))).clamp(min=0.0)

    def of_answers(self, above_B: Tensor, good_B: Tensor) -> Tensor:
        return preference_losses.kto(above_B, good_B, self.desirable, self.undesirable)


class Bco(AnswerLoss):
    """BCO, binary classifier optimisation. Jung et al., 2024 (2404.04656).

    The shift is the mean reward of all answers so far, this step's with it, as in the code that its authors gave to
    TRL; every step weighs the same. Left out: density ratios, for good and bad answers to different kinds of prompts.
    """

    type: str = "bco"
    beta: PositiveFloat = 0.01  # appendix C

    @property
    def dials(self) -> Mapping[str, float]:
        return {"shift": 0.0, "steps": 0.0}

    def turned(self, dials: Mapping[str, float], metrics: Mapping[str, float]) -> Mapping[str, float]:
        if "baseline" not in metrics:
            return dials
        return {"shift": metrics["baseline"], "steps": dials["steps"] + 1.0}

    def rewards(self, answers: Answers) -> Tensor:
        return self.beta * answers.log_ratio_B

    def baseline(self, rewards_B: Tensor, answers: Answers) -> Tensor:
        before, steps = answers.dials["shift"], answers.dials["steps"]
        return (before * steps + rewards_B.sum() / max(1, len(rewards_B))) / (steps + 1.0)

    def of_answers(self, above_B: Tensor, good_B: Tensor) -> Tensor:
        return preference_losses.bco(above_B, good_B)


class Outcome(AnswerLoss):
    """Cross-entropy of sigmoid(reward) with right or wrong. Yuan et al., 2024, Free Process Rewards (2412.01981).

    An outcome reward model whose reward is a log ratio is a process reward model too: the reward of an answer's first
    tokens is beta log E[exp(reward / beta)] over how the reference goes on from there. The reward `implicit` reads it
    off what this leaves, token by token. BCO without its shift, so that the reward is the log-odds of being right.
    """

    type: str = "outcome"
    beta: PositiveFloat = 0.05  # PRIME's (2502.01456, section 4.1)

    def rewards(self, answers: Answers) -> Tensor:
        return self.beta * answers.log_ratio_B

    def baseline(self, rewards_B: Tensor, answers: Answers) -> Tensor:
        return rewards_B.new_zeros(())

    def of_answers(self, above_B: Tensor, good_B: Tensor) -> Tensor:
        return preference_losses.bco(above_B, good_B)
