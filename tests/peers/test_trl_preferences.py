"""Values, gradients and metrics equal to TRL's: trl_1_16_preferences.json, made by make_trl_preference_vectors.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tutelage.algorithms import (
    Answers,
    Aot,
    ApoDown,
    ApoZero,
    Cpo,
    DiscoPop,
    Dpo,
    Exo,
    Hinge,
    Ipo,
    Kto,
    Nca,
    Orpo,
    PreferenceLoss,
    RobustDpo,
    SimPo,
    Sppo,
)
from tutelage.functional import preference_losses

PEER = json.loads(Path(__file__).with_name("trl_1_16_preferences.json").read_text())
WHOLE_NUMBERS = {"lengths": torch.int64, "good": torch.bool}
INPUTS = {
    name: torch.tensor(values, dtype=WHOLE_NUMBERS.get(name, torch.float64)) for name, values in PEER["inputs"].items()
}
PAIRS = len(INPUTS["lengths"]) // 2
BETTER_P, WORSE_P = torch.arange(PAIRS), torch.arange(PAIRS, 2 * PAIRS)

OURS_DPO: list[PreferenceLoss | None] = [
    Dpo(),
    Dpo(beta=2.0),
    Dpo(divergence="forward_kl"),
    Dpo(divergence="js"),
    Dpo(divergence="alpha", alpha=0.3),  # TRL's coefficient is 1 - ours, which is the paper's
    Dpo(beta=5.0, length_normalised=True),
    Hinge(beta=0.5),
    Ipo(),
    Exo(),
    Nca(),
    RobustDpo(),
    None,  # bco_pair, below
    Sppo(beta=0.5),
    Aot(),
    Aot(dominance="answers"),
    ApoZero(),
    ApoDown(),
    DiscoPop(),
    None,  # sft, below
    None,
]
OURS_REFERENCE_FREE: list[PreferenceLoss | None] = [
    Cpo(),
    None,  # label smoothing, below
    Hinge(reference_free=True),
    SimPo(beta=2.0, margin=1.0),
    Orpo(),
]
OURS_KTO: list[PreferenceLoss] = [
    Kto(),
    Kto(beta=0.5, desirable=1.2, undesirable=0.7),
    Kto(),
    Kto(reference_point="zero"),
]
# What TRL computes in fp32: a constant of EXO, all of ORPO and of the alpha divergence.
LOOSE = {"exo_pair": 1e-6, "orpo": 1e-6, "alpha_divergence": 1e-5}


def cases(table: str, ours: list[Any]) -> list[Any]:
    theirs = PEER[table]
    assert len(theirs) == len(ours)
    return [
        pytest.param(loss, case, id=f"{case['name']} {case['settings']}")
        for loss, case in zip(ours, theirs, strict=True)
        if loss is not None
    ]


def named(table: str, name: str) -> dict[str, Any]:
    return next(case for case in PEER[table] if case["name"] == name)


def answers_of(logprobs_B: Tensor, sign: float = 1.0) -> Answers:
    return Answers(
        logprobs_B,
        INPUTS["lengths"],
        INPUTS["reference"],
        BETTER_P,
        WORSE_P,
        good_B=INPUTS["good"],
        mismatched_B=sign * INPUTS["mismatched"],
    )


def close(ours: Tensor, theirs: Any, rtol: float = 1e-9) -> None:
    torch.testing.assert_close(ours.detach(), torch.tensor(theirs, dtype=ours.dtype), rtol=rtol, atol=rtol)


def check(loss: Tensor, logprobs_B: Tensor, theirs: dict[str, Any], rtol: float = 1e-9) -> None:
    close(loss, theirs["loss"], rtol)
    close(torch.autograd.grad(loss, logprobs_B)[0], theirs["gradient"], rtol)


def leaf() -> Tensor:
    return INPUTS["logprobs"].clone().requires_grad_()


def test_whose_numbers_these_are() -> None:
    assert PEER["trl"] == "1.16.0"
    assert "make_trl_preference_vectors.py" in PEER["command"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    cases("dpo", OURS_DPO) + cases("reference_free", OURS_REFERENCE_FREE) + cases("kto", OURS_KTO),
)
def test_losses_and_gradients(ours: PreferenceLoss, theirs: dict[str, Any]) -> None:
    logprobs_B = leaf()
    losses = ours.loss(answers_of(logprobs_B, theirs.get("sign", 1.0))).losses
    assert len(losses) == (PAIRS if ours.paired else 2 * PAIRS)
    kind = theirs["settings"].get("f_divergence_type", theirs["name"])
    check(losses.mean(), logprobs_B, theirs, LOOSE.get(kind, 1e-9))


# Where the reward is beta times the log ratio. TRL reports that for the others too, which compare something else.
@pytest.mark.parametrize(("ours", "theirs"), cases("dpo", [*OURS_DPO[:2], *[None] * 18]) + cases("kto", OURS_KTO))
def test_metrics(ours: PreferenceLoss, theirs: dict[str, Any]) -> None:
    terms = ours.loss(answers_of(INPUTS["logprobs"], theirs.get("sign", 1.0)))
    names = {"rewards/chosen": "chosen_reward", "rewards/rejected": "rejected_reward"}
    names |= {"rewards/margins": "margin", "rewards/accuracies": "accuracy"}
    assert theirs["metrics"]
    for name, value in theirs["metrics"].items():
        close(terms.metrics[names[name]] / len(terms.losses), value, rtol=1e-5)


def test_bco_of_a_pair_is_the_sum_of_its_answers() -> None:
    logprobs_B = leaf()
    rewards_B = 0.1 * (logprobs_B - INPUTS["reference"])
    loss = preference_losses.bco(rewards_B, torch.arange(2 * PAIRS) < PAIRS).sum() / PAIRS
    check(loss, logprobs_B, named("dpo", "bco_pair"))


def test_label_smoothing_is_cpos() -> None:
    logprobs_B, zeros_P = leaf(), torch.zeros(PAIRS, dtype=torch.float64)
    loss_P = preference_losses.dpo(logprobs_B[:PAIRS], logprobs_B[PAIRS:], zeros_P, zeros_P, label_smoothing=0.2)
    check(loss_P.mean(), logprobs_B, PEER["reference_free"][1])


def test_the_supervised_term_weighs_answers_where_trl_weighs_tokens() -> None:
    logprobs_B = leaf()
    answers = answers_of(logprobs_B)
    supervised_P = (Dpo(sft=0.3).loss(answers).losses - Dpo().loss(answers).losses) / 0.3
    torch.testing.assert_close(supervised_P.detach(), -(INPUTS["logprobs"] / INPUTS["lengths"])[:PAIRS])
    by_token = (supervised_P * INPUTS["lengths"][:PAIRS]).sum() / INPUTS["lengths"][:PAIRS].sum()
    check(by_token, logprobs_B, named("dpo", "sft"))
    logprobs_B = leaf()
    by_token = -logprobs_B[:PAIRS].sum() / INPUTS["lengths"][:PAIRS].sum()
    check(Dpo().loss(answers_of(logprobs_B)).losses.mean() + 0.3 * by_token, logprobs_B, named("dpo", "sigmoid, sft"))
