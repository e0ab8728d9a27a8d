"""Values and gradients equal to verl's on the same inputs: verl_0_9.json, made by make_verl_vectors.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tutelage.algorithms import Cispo, ClipCov, Critic, Dapo, Gmpo, Grpo, Gspo, KlCov, Opo, Ppo, ReinforcePp, Remax
from tutelage.functional import advantages, kl
from tutelage.types import Actions, Experience

PEER = json.loads(Path(__file__).with_name("verl_0_9.json").read_text())
INPUTS = {name: torch.tensor(values, dtype=torch.float64) for name, values in PEER["inputs"].items()}
MASK_BT = INPUTS["mask"].bool()
SEQUENCE_A = MASK_BT.nonzero()[:, 0]
TOKENS, SEQUENCES = int(MASK_BT.sum()), len(MASK_BT)


def close(ours: Tensor, theirs: Any, tolerance: float = 1e-9) -> None:
    expected = torch.tensor(theirs, dtype=torch.float64)
    torch.testing.assert_close(ours.detach(), expected, rtol=tolerance, atol=tolerance)


def padded(values_A: Tensor) -> Tensor:
    whole_BT = torch.zeros(MASK_BT.shape, dtype=torch.float64)
    whole_BT[MASK_BT] = values_A.detach()
    return whole_BT


def test_whose_numbers_these_are() -> None:
    assert PEER["verl"].startswith("0.9")
    assert "make_verl_vectors.py" in PEER["command"]


def experience(rewards_A: Tensor, rewards_B: Tensor) -> Experience:
    rewards_PG = rewards_B.view(-1, PEER["group"])
    return Experience(
        rewards_PG=rewards_PG,
        valid_PG=torch.ones_like(rewards_PG, dtype=torch.bool),
        truncated_PG=torch.zeros_like(rewards_PG, dtype=torch.bool),
        sequence_A=SEQUENCE_A,
        rewards_A=rewards_A,
        behaviour_A=INPUTS["behaviour"][MASK_BT],
        after_B=torch.zeros(SEQUENCES, dtype=torch.float64),
        values_A=INPUTS["values"][MASK_BT],
        greedy_P=INPUTS["greedy"],
    )


OUTCOME = experience(torch.zeros(TOKENS, dtype=torch.float64), INPUTS["outcomes"])
BY_TOKEN = experience(INPUTS["token_rewards"][MASK_BT], (INPUTS["token_rewards"] * MASK_BT).sum(1))


@pytest.mark.parametrize("name", ["group_scaled", "group_centred", "leave_one_out"])
def test_group_advantages(name: str) -> None:
    of = OUTCOME.rewards_PG, OUTCOME.valid_PG
    settings = {"eps": 1e-6} if name == "group_scaled" else {}  # ours has TRL's 1e-4
    ours_PG = getattr(advantages, name)(*of, **settings)
    # verl's own mean is computed in fp32 for some groups.
    close(padded(OUTCOME.shared(ours_PG).advantages_A), PEER["advantages"][name], 1e-6)


def test_reinforce_plus_plus() -> None:
    whole = ReinforcePp(discount=0.97).credit(BY_TOKEN)
    close(padded(whole.advantages_A), PEER["advantages"]["reinforce_pp"], 1e-7)  # where the 1e-8 stands
    grouped = ReinforcePp(baseline="group").credit(OUTCOME)
    close(padded(grouped.advantages_A), PEER["advantages"]["reinforce_pp_baseline"], 1e-7)


def test_opo() -> None:
    close(padded(Opo().credit(OUTCOME).advantages_A), PEER["advantages"]["opo"])


def test_remax() -> None:
    """verl gives every token the return from it on, which for an outcome is the outcome."""
    close(padded(Remax().credit(OUTCOME).advantages_A), PEER["advantages"]["remax"])


def test_gae() -> None:
    credit = Critic().credit(BY_TOKEN, discount=0.97, decay=0.9, whiten=True)
    assert credit.returns_A is not None
    close(padded(credit.advantages_A), PEER["advantages"]["gae"], 1e-7)
    close(padded(credit.returns_A), PEER["advantages"]["gae_returns"])


OURS = {
    "vanilla": Ppo(clip_low=0.2, clip_high=0.28, clip_dual=1.5),
    "gspo": Gspo(clip_low=0.05, clip_high=0.08),
    "cispo": Cispo(clip_low=0.2, clip_high=0.28),
    "geo_mean": Gmpo(clip_low=0.3, clip_high=0.2),
    "clip_cov": ClipCov(clip_low=0.2, clip_high=0.2, share=1.0, least=0.05, most=0.6),
    "kl_cov": KlCov(share=0.25, penalty=1.0),
}


@pytest.mark.parametrize("theirs", PEER["policy_losses"], ids=lambda theirs: theirs["name"])
def test_policy_losses_and_gradients(theirs: dict[str, Any]) -> None:
    name = theirs["name"]
    logprobs_BT = INPUTS["logprobs"].clone().requires_grad_()
    by_token = name in ("vanilla", "cispo")
    credit_A = INPUTS["advantages_by_token"][MASK_BT] if by_token else INPUTS["advantages"][SEQUENCE_A]
    actions = Actions(
        logprobs_A=logprobs_BT[MASK_BT],
        entropy_A=torch.zeros(TOKENS, dtype=torch.float64),
        advantages_A=credit_A,
        behaviour_A=INPUTS["behaviour"][MASK_BT],
        reference_A=None,
        sequence_A=SEQUENCE_A,
        sequences=SEQUENCES,
    )
    loss = OURS[name].loss(actions)
    mean = loss.total / (TOKENS if loss.unit == "tokens" else SEQUENCES)
    if name != "clip_cov":  # verl takes the chosen tokens out of the value, too; the gradient is the same
        close(mean, theirs["loss"], 1e-7)
    close(torch.autograd.grad(mean, logprobs_BT)[0], theirs["gradient"], 1e-7)


def test_grpo_without_anchor_by_token_is_verls_vanilla_loss() -> None:
    """DAPO's loss on the same inputs, but for the dual clip, which verl always has."""
    (theirs,) = [case for case in PEER["policy_losses"] if case["name"] == "vanilla"]
    logprobs_BT = INPUTS["logprobs"].clone().requires_grad_()
    actions = Actions(
        logprobs_BT[MASK_BT],
        torch.zeros(TOKENS),
        INPUTS["advantages_by_token"][MASK_BT],
        INPUTS["behaviour"][MASK_BT],
        None,
        SEQUENCE_A,
        SEQUENCES,
    )
    (gradient,) = torch.autograd.grad(Dapo().loss(actions).total / TOKENS, logprobs_BT)
    ratio_BT = (INPUTS["logprobs"] - INPUTS["behaviour"]).exp()
    beyond_BT = (ratio_BT > 1.5) & (INPUTS["advantages_by_token"] < 0) & MASK_BT
    assert beyond_BT.any()
    close(gradient.masked_fill(beyond_BT, 0.0), theirs["gradient"], 1e-9)
    assert gradient[beyond_BT].ne(0).all()
    assert Grpo(kl=0.0).needs_reference is False


def test_value_loss() -> None:
    theirs = PEER["value_loss"]
    values_BT = INPUTS["values"].clone().requires_grad_()
    actions = Actions(
        logprobs_A=INPUTS["logprobs"][MASK_BT],
        entropy_A=torch.zeros(TOKENS),
        advantages_A=torch.zeros(TOKENS),
        behaviour_A=INPUTS["behaviour"][MASK_BT],
        reference_A=None,
        sequence_A=SEQUENCE_A,
        sequences=SEQUENCES,
        values_A=values_BT[MASK_BT],
        predicted_A=INPUTS["predicted"][MASK_BT],
        returns_A=INPUTS["returns"][MASK_BT],
    )
    loss = Critic(weight=1.0, clip=theirs["clip"]).loss(actions).total / TOKENS
    close(loss, theirs["loss"])
    close(torch.autograd.grad(loss, values_BT)[0], theirs["gradient"])


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_kl(kind: str) -> None:
    close(getattr(kl, kind)(INPUTS["logprobs"], INPUTS["reference"]), PEER["kl"][kind])
