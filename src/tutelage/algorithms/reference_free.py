"""Losses of pairs that need no reference model: ORPO, SimPO, CPO."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from tutelage.algorithms.preferences import Answers, PairLoss
from tutelage.functional import preference_losses


class ReferenceFreeLoss(PairLoss):
    """A loss of pairs that reads the policy alone."""

    @property
    def needs_reference(self) -> bool:
        return False


class Orpo(ReferenceFreeLoss):
    """ORPO, odds ratio preference optimisation. Hong et al., 2024 (2403.07691), equations 6 and 7.

    The supervised term is the loss's body, and -log sigmoid of the difference of log-odds its extra: so it takes the
    place of an SFT stage. `sft` is of the answer's tokens alone; the prompt is not learned.
    """

    type: str = "orpo"
    sft: NonNegativeFloat = 1.0  # equation 6
    weight: PositiveFloat = 0.1  # the paper's lambda, for Llama-2 and Mistral; 0.25 for Phi-2

    def rewards(self, answers: Answers) -> Tensor:
        return preference_losses.log_odds(answers.per_token(answers.logprobs_B))

    def of_pairs(self, chosen_P: Tensor, rejected_P: Tensor, answers: Answers) -> Tensor:
        return self.weight * preference_losses.logistic(chosen_P - rejected_P)


class SimPo(ReferenceFreeLoss):
    """SimPO, simple preference optimisation. Meng et al., 2024 (2405.14734), equation 6.

    The reward is beta times the mean log-probability of the answer's tokens; the margin is what it must win by.
    """

    type: str = "simpo"
    beta: PositiveFloat = 2.0  # the paper's for base models; 2.5 for instructed ones
    margin: NonNegativeFloat = 1.0  # the paper's gamma, of Llama-3-Base; others 0.3 to 1.6

    def rewards(self, answers: Answers) -> Tensor:
        return self.beta * answers.per_token(answers.logprobs_B)

    def of_pairs(self, chosen_P: Tensor, rejected_P: Tensor, answers: Answers) -> Tensor:
        return preference_losses.logistic(chosen_P - rejected_P - self.margin)


class Cpo(ReferenceFreeLoss):
    """CPO, contrastive preference optimisation. Xu et al., 2024 (2401.08417), section 3.

    DPO's loss with a uniform reference, and a supervised term that keeps the chosen answer likely.
    """

    type: str = "cpo"
    sft: NonNegativeFloat = 1.0  # the paper's sum has no weights
    beta: PositiveFloat = 0.1  # DPO's; the paper takes it over

    def rewards(self, answers: Answers) -> Tensor:
        return self.beta * answers.logprobs_B

    def of_pairs(self, chosen_P: Tensor, rejected_P: Tensor, answers: Answers) -> Tensor:
        return preference_losses.logistic(chosen_P - rejected_P)
