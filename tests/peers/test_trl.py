"""Values and gradients equal to TRL's on the same inputs: trl_1_16.json, made by make_trl_vectors.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tutelage.algorithms import Cispo, Dapo, DrGrpo, Grpo, Gspo, Rloo, Sapo, supervised_loss
from tutelage.functional import advantages, logprobs, policy_losses, preference_losses, ratios, reductions
from tutelage.types import Actions, Loss

PEER = json.loads(Path(__file__).with_name("trl_1_16.json").read_text())
WHOLE_NUMBERS = ("lengths", "targets")
INPUTS = {
    name: torch.tensor(values, dtype=torch.int64 if name in WHOLE_NUMBERS else torch.float64)
    for name, values in PEER["inputs"].items()
}
LENGTHS = INPUTS["lengths"]
MASK_BT = torch.arange(int(LENGTHS.max())) < LENGTHS[:, None]
TOKENS, SEQUENCES = int(MASK_BT.sum()), len(LENGTHS)


def close(ours: Tensor, theirs: Any, rtol: float = 1e-9) -> None:
    expected = torch.tensor(theirs, dtype=ours.dtype)
    torch.testing.assert_close(ours.detach(), expected, rtol=rtol, atol=rtol)


def bnpo(actions: Actions) -> Loss:
    """TRL's `bnpo` divides by its micro-batch's tokens; with one micro-batch that is the global count."""
    ratio_A = ratios.token_ratio(actions.logprobs_A, actions.behaviour_A)
    return Loss(*reductions.token_sum(policy_losses.clipped_surrogate(ratio_A, actions.advantages_A, 0.2, 0.2)[0]))


OURS: list[Callable[[Actions], Loss]] = [
    Grpo(kl=0.04).loss,
    Grpo(kl=0.0, clip_high=0.28).loss,
    DrGrpo(length=PEER["budget"]).loss,
    Dapo().loss,
    bnpo,
    Gspo(clip_low=0.05, clip_high=0.05).loss,
    Rloo().loss,
    Cispo(clip_high=0.28).loss,
    Sapo().loss,
    Grpo(kl=0.04, kl_estimator="k3_unbiased").loss,
]


def actions_of(logprobs_BT: Tensor) -> Actions:
    sequence_A = MASK_BT.nonzero()[:, 0]
    return Actions(
        logprobs_A=logprobs_BT[MASK_BT],
        entropy_A=INPUTS["entropy"][MASK_BT],
        advantages_A=INPUTS["advantages"][sequence_A],
        behaviour_A=INPUTS["behaviour"][MASK_BT],
        reference_A=INPUTS["reference"][MASK_BT],
        sequence_A=sequence_A,
        sequences=SEQUENCES,
    )


def test_whose_numbers_these_are() -> None:
    assert PEER["trl"] == "1.16.0"
    assert "make_trl_vectors.py" in PEER["command"]
    assert len(PEER["losses"]) == len(OURS)


@pytest.mark.parametrize("case", range(len(OURS)), ids=[theirs["name"] for theirs in PEER["losses"]])
def test_losses_and_gradients(case: int) -> None:
    theirs = PEER["losses"][case]
    logprobs_BT = INPUTS["logprobs"].clone().requires_grad_()
    loss = OURS[case](actions_of(logprobs_BT))
    mean = loss.total / (TOKENS if loss.unit == "tokens" else SEQUENCES)
    constant = 0.0
    if theirs["name"] == "rloo":  # TRL counts an empty answer as ratio 1 times its advantage: a number, no gradient
        constant = INPUTS["advantages"][LENGTHS == 0].sum().item() / SEQUENCES
    close(mean, theirs["loss"] + constant)
    close(torch.autograd.grad(mean, logprobs_BT)[0], theirs["gradient"])


@pytest.mark.parametrize("case", [0, 2])
def test_metrics(case: int) -> None:
    theirs = PEER["losses"][case]["metrics"]
    metrics = OURS[case](actions_of(INPUTS["logprobs"])).metrics
    names = {"entropy": "entropy", "kl": "kl", "clip_ratio/region_mean": "clipped"}
    for name, value in theirs.items():
        close(metrics[names[name]] / TOKENS, value, rtol=1e-6)


@pytest.mark.parametrize("kind", ["all", "failed"])
@pytest.mark.parametrize("credit", [advantages.group_scaled, advantages.group_centred, advantages.leave_one_out])
def test_advantages(kind: str, credit: Callable[[Tensor, Tensor], Tensor]) -> None:
    rewards_PG, valid_PG = INPUTS["rewards"], torch.tensor(PEER["valid"])
    valid_PG = valid_PG if kind == "failed" else torch.ones_like(valid_PG)
    theirs = PEER["advantages"][kind][credit.__name__]
    # TRL corrects the variance of a group with failed rewards by a factor in fp32.
    rounded = kind == "failed" and credit is advantages.group_scaled
    close(credit(rewards_PG, valid_PG).flatten(), theirs, rtol=1e-7 if rounded else 1e-9)


@pytest.mark.parametrize("case", range(len(PEER["scores"])))
def test_scores_and_gradients(case: int) -> None:
    theirs = PEER["scores"][case]
    logits = INPUTS["logits"].clone().requires_grad_()
    logits_RV = logprobs.transform_logits(logits.flatten(0, 1), theirs["temperature"])
    logprobs_R = logprobs.gather_logprobs(logits_RV, INPUTS["targets"].flatten())
    entropy_R = logprobs.entropy(logits_RV)
    close(logprobs_R.view(3, 4), theirs["logprobs"])
    close(entropy_R.view(3, 4), theirs["entropy"])
    (gradient,) = torch.autograd.grad(logprobs_R.sum() + 0.1 * entropy_R.sum(), logits)
    close(gradient, theirs["gradient"])


def test_supervised() -> None:
    theirs = PEER["supervised"]
    labels = torch.tensor(theirs["labels"])
    logits = INPUTS["logits"].float().requires_grad_()
    logprobs_A = logprobs.gather_logprobs(logits[labels >= 0], labels[labels >= 0])
    ones_A, whose_A = torch.ones_like(logprobs_A).detach(), (labels >= 0).nonzero()[:, 0]
    actions = Actions(logprobs_A, 0 * ones_A, ones_A, logprobs_A.detach(), None, whose_A, sequences=3)
    loss = supervised_loss(actions)
    assert loss.unit == "tokens"
    mean = loss.total / theirs["items"]
    close(mean, theirs["loss"], rtol=1e-6)
    close(torch.autograd.grad(mean, logits)[0], theirs["gradient"], rtol=1e-6)


@pytest.mark.parametrize("case", range(len(PEER["preferences"])))
def test_dpo(case: int) -> None:
    theirs = PEER["preferences"][case]
    logprobs_BT = INPUTS["logprobs"].clone().requires_grad_()
    chosen_P, rejected_P = (logprobs_BT * MASK_BT).sum(1).chunk(2)
    reference_chosen_P, reference_rejected_P = (INPUTS["reference"] * MASK_BT).sum(1).chunk(2)
    loss = preference_losses.dpo(chosen_P, rejected_P, reference_chosen_P, reference_rejected_P, theirs["beta"]).mean()
    close(loss, theirs["loss"])
    close(torch.autograd.grad(loss, logprobs_BT)[0], theirs["gradient"])
