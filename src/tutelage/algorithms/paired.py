"""Losses of pairs beside a frozen reference: DPO and its kin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor

from tutelage.algorithms.preferences import Answers, PairLoss, given
from tutelage.config import Share
from tutelage.functional import preference_losses
from tutelage.functional.preference_losses import Divergence

Flipped = Annotated[float, Field(gt=0.0, lt=0.5)]  # probability that a label is wrong; at a half it says nothing


class ReferenceLoss(PairLoss):
    """A loss of pairs whose reward is beta * log(policy / reference) of the whole answer."""

    beta: PositiveFloat = 0.1  # how strongly the policy is held to the reference; 2305.18290, appendix B

    def rewards(self, answers: Answers) -> Tensor:
        return self.beta * answers.log_ratio_B


class Dpo(ReferenceLoss):
    """DPO, direct preference optimisation. Rafailov et al., 2023 (2305.18290), equation 7.

    With `label_smoothing` conservative DPO (Mitchell, 2023); with another `divergence` f-DPO (2309.16240), whose
    reward is beta f'(policy / reference); `length_normalised` divides an answer's reward by its length (Tulu 3,
    2411.15124).
    """

    type: str = "dpo"
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0
    divergence: Divergence = "reverse_kl"
    alpha: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5  # of divergence = "alpha"; one of 2309.16240's three
    length_normalised: bool = False

    @model_validator(mode="after")
    def _alpha_is_read(self) -> Dpo:
        if "alpha" in self.model_fields_set and self.divergence != "alpha":
            raise ValueError(f"alpha: '{self.divergence}' does not read it; leave it out, or set divergence = 'alpha'")
        return self

    def rewards(self, answers: Answers) -> Tensor:
        scores_B = preference_losses.divergence_score(answers.log_ratio_B, self.divergence, self.alpha)
        return self.beta * (answers.per_token(scores_B) if self.length_normalised else scores_B)

    def of_pairs(self, chosen_P: Tensor, rejected_P: Tensor, answers: Answers) -> Tensor:
        return preference_losses.logistic(chosen_P - rejected_P, self.label_smoothing)


class RobustDpo(ReferenceLoss):
    """Robust DPO. Chowdhury et al., 2024 (2403.00409): DPO's loss without the bias of flipped labels."""

    type: str = "robust_dpo"
    beta: PositiveFloat = 0.01  # appendix B
    flipped: Flipped = 0.1  # section 6: the share of wrong labels that is assumed

    def of_pairs(self, chosen_P: Tensor, rejected_P: Tensor, answers: Answers) -> Tensor:
        return preference_losses.robust(chosen_P - rejected_P, self.flipped)


class Ipo(ReferenceLoss):
    """IPO, identity preference optimisation. Azar et al., 2023 (2310.12036), equation 17.

    The paper's tau is `beta`; its experiments have 0.1, 0.5 and 1. Equation 17 has sums over an answer's tokens; the
    authors' own runs, as they told TRL, means. So is the default here; `length_normalised = false` is the equation.
    """

    type: str = "ipo"
    length_normalised: bool = True

    def rewards(self, answers: Answers) -> Tensor:
        rewards_B = super().rewards(answers)
        return answers.per_token(rewards_B) if self.length_normalised else rewards_B

    def of_pairs(self, chosen_P: Tensor, rejected_P: Tensor, answers: Answers) -> Tensor:
        return preference_losses.ipo(chosen_P - rejected_P, self.beta)


class Hinge(ReferenceLoss):
    """The hinge loss of RSO. Liu et al., 2023 (2309.06657), whose gamma is `beta`.

    `reference_free` is SLiC-HF's calibration loss (2305.10425), with a margin of 1 / beta: 1 in the paper, so beta = 1.
    Its regulariser, a cross-entropy, is `sft`, here of the better answers, not of an SFT set.
    """

    type: str = "hinge"
    reference_free: bool = False

    @property
    def needs_reference(self) -> bool:
        return not self.reference_free

    def rewards(self, answers: Answers) -> Tensor:
        return self.beta * (answers.logprobs_B if self.reference_free else answers.log_ratio_B)

    def of_pairs(self, chosen_P: Tensor, rejected_P: Tensor, answers: Answers) -> Tensor:
        return preference_losses.hinge(chosen_P - rejected_P)


class Dpop(ReferenceLoss):
    """DPO-positive. Pal et al., 2024, Smaug (2402.13228), equation 3."""

    type: str = "dpop"
    beta: PositiveFloat = 0.3  # the paper's
    weight: PositiveFloat = 50.0  # the paper's lambda

    def of_pairs(self, chosen_P: Tensor, rejected_P: Tensor, answers: Answers) -> Tensor:
        return preference_losses.dpop(chosen_P, rejected_P, self.weight)


class BetaDpo(ReferenceLoss):
    """beta-DPO: a beta for each step. Wu et al., 2024 (2407.08639), section 4.

    A step whose pairs are further apart than usual learns with a higher beta. What is usual is a running mean, this
    step's gap in it, as in the authors' code, which has gaps of log ratios without beta too. Metrics are of the
    `beta` of the table. Left out: dropping a fifth of the pairs, drawn by how unusual their gap is.
    """

    coupled: ClassVar[bool] = True

    type: str = "beta_dpo"
    scale: PositiveFloat = 0.6  # the paper's alpha, as in the authors' example; towards 0 it is DPO
    momentum: Share = 0.9  # of the running mean: the paper's m

    @property
    def dials(self) -> Mapping[str, float]:
        return {"mean_gap": 0.0}

    def turned(self, dials: Mapping[str, float], metrics: Mapping[str, float]) -> Mapping[str, float]:
        return {"mean_gap": metrics["mean_gap"]} if "mean_gap" in metrics else dials

    def of_pairs(self, chosen_P: Tensor, rejected_P: Tensor, answers: Answers) -> Tensor:
        gaps_P = (chosen_P - rejected_P) / self.beta
        beta = preference_losses.batch_beta(gaps_P, self._mean_gap(gaps_P, answers), self.beta, self.scale)
        return preference_losses.logistic(beta * gaps_P)

    def extra_metrics(self, answers: Answers) -> Mapping[str, Tensor]:
        gaps_P = answers.gaps(answers.log_ratio_B.detach())
        return {"mean_gap": self._mean_gap(gaps_P, answers).expand_as(gaps_P)}

    def _mean_gap(self, gaps_P: Tensor, answers: Answers) -> Tensor:
        gap = gaps_P.detach().sum() / max(1, len(gaps_P))
        return self.momentum * answers.dials["mean_gap"] + (1.0 - self.momentum) * gap


class ApoZero(ReferenceLoss):
    """APO-zero, anchored preference optimisation. D'Oosterlinck et al., 2024 (2408.06266), equation 7."""

    type: str = "apo_zero"

    def of_pairs(self, chosen_P: Tensor, rejected_P: Tensor, answers: Answers) -> Tensor:
        return preference_losses.apo_zero(chosen_P, rejected_P)


class ApoDown(ReferenceLoss):
    """APO-down. D'Oosterlinck et al., 2024 (2408.06266), equation 8."""

    type: str = "apo_down"

    def of_pairs(self, chosen_P: Tensor, rejected_P: Tensor, answers: Answers) -> Tensor:
        return preference_losses.apo_down(chosen_P, rejected_P)


class Exo(ReferenceLoss):
    """EXO, efficient exact optimisation. Ji et al., 2024 (2402.00856), equation 16.

    Of pairs; left out: K answers at once with a reward model's scores (equation 14).
    """

    type: str = "exo"
    label_smoothing: Annotated[float, Field(gt=0.0, lt=0.5)] = 1e-3  # the paper's epsilon; at 0 the KL is infinite

    def of_pairs(self, chosen_P: Tensor, rejected_P: Tensor, answers: Answers) -> Tensor:
        return preference_losses.exo(chosen_P - rejected_P, self.label_smoothing)


class Nca(ReferenceLoss):
    """NCA, noise contrastive alignment. Chen et al., 2024 (2402.05369).

    Of pairs; left out: K answers with explicit rewards.
    """

    type: str = "nca"
    beta: PositiveFloat = 0.01  # appendix C

    def of_pairs(self, chosen_P: Tensor, rejected_P: Tensor, answers: Answers) -> Tensor:
        return preference_losses.nca(chosen_P, rejected_P)


class Sppo(ReferenceLoss):
    """SPPO, self-play preference optimisation. Wu et al., 2024 (2405.00675), equation 4.7.

    `labels = "soft"` takes the probability that the better answer wins from the judge's margin, by its sigmoid; "hard"
    takes 1. Left out: sampling the answers from the policy of the last iteration, which is then the reference: that is
    the pipeline's.
    """

    type: str = "sppo"
    beta: PositiveFloat = 1e-3  # the paper's eta is 1e3
    labels: Literal["hard", "soft"] = "hard"

    def of_pairs(self, chosen_P: Tensor, rejected_P: Tensor, answers: Answers) -> Tensor:
        soft = self.labels == "soft"
        wins_P = given(answers.margins_P, "margins_P").sigmoid() if soft else torch.ones_like(chosen_P)
        return preference_losses.sppo(chosen_P, rejected_P, wins_P, self.beta)


class Aot(ReferenceLoss):
    """AOT, alignment by optimal transport. Melnyk et al., 2024 (2406.05882), section 3.

    Distributions are compared, not pairs: with `dominance = "margins"` (the paper's paired AOT) the policy's
    log-probability gaps with the reference's, with "answers" (unpaired AOT) the better answers' rewards with the
    worse ones'. Each loss is of two values of the same rank in the step. Left out: soft sorting.
    """

    coupled: ClassVar[bool] = True

    type: str = "aot"
    dominance: Literal["margins", "answers"] = "margins"

    def of_pairs(self, chosen_P: Tensor, rejected_P: Tensor, answers: Answers) -> Tensor:
        upper_P, lower_P = chosen_P, rejected_P
        if self.dominance == "margins":
            upper_P = self.beta * answers.gaps(answers.logprobs_B)
            lower_P = self.beta * answers.gaps(given(answers.reference_B, "reference_B"))
        return preference_losses.logistic(preference_losses.quantile_gaps(upper_P, lower_P))


class DiscoPop(ReferenceLoss):
    """DiscoPOP, the log-ratio modulated loss. Lu et al., 2024 (2406.08414), equation 5."""

    type: str = "discopop"
    beta: PositiveFloat = 0.05  # appendix B.1
    temperature: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05  # the paper's tau

    def of_pairs(self, chosen_P: Tensor, rejected_P: Tensor, answers: Answers) -> Tensor:
        return preference_losses.discopop(chosen_P - rejected_P, self.temperature)
