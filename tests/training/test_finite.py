"""Whose fault a number is that is not finite: the term, the sample, the position, the token; and what is kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.training.test_update import state_of
from tutelage.data.packing import Row, pack
from tutelage.errors import NonFiniteError
from tutelage.models import Policy
from tutelage.training import State, update
from tutelage.training.finite import keep_evidence
from tutelage.types import Batch, Loss

FIELDS = {
    "sampler": "the sampler's log-probability",
    "behaviour": "the learner's log-probability",
    "reference": "the reference's log-probability",
    "predicted": "the critic's value",
    "rewards": "the reward",
    "returns": "the return",
    "advantages": "the advantage",
}
TERM = "the learner's log-probability"


def rows() -> list[Row]:
    """Three answers to two prompts; the second one's is "b/0" and has the tokens 20, 21, 22, 23."""
    fields = dict.fromkeys(FIELDS, 0.5)
    return [
        Row((5, 6, 7), (10, 11), 0, fields=fields, name="a/0"),
        Row((5, 6, 7), (12, 13, 14), 0, fields=fields, name="a/1"),
        Row((8, 9), (20, 21, 22, 23), 1, fields=fields, name="b/0"),
    ]


def spoiled(name: str, value: float) -> list[Row]:
    first, second, third = rows()
    own = [0.5, 0.5, value, value]
    return [first, second, replace(third, fields={**third.fields, name: own})]


def imitation(policy: Policy, batch: Batch) -> Sequence[Loss]:
    logprobs_A, _ = policy.score(batch)
    return (Loss(-(logprobs_A * batch.fields["advantages"]).sum(), "tokens", terms={TERM: logprobs_A}),)


def fault(state: State, batches: Sequence[Batch], loss: Callable[[Policy, Batch], Sequence[Loss]]) -> NonFiniteError:
    """The error of an update; nothing of the state may have changed."""
    before = {name: master.detach().clone() for name, master in state.policy.masters.items()}
    with pytest.raises(NonFiniteError) as stopped:
        update(state, batches, loss, 10)
    for name, master in state.policy.masters.items():
        assert torch.equal(master, before[name])
        assert master.grad is None
    assert state.policy.version == 0
    assert not state.optimizer.state
    return stopped.value


@pytest.mark.parametrize("budget", [8, 100], ids=["a micro-batch for each", "all in one"])
@pytest.mark.parametrize("value", [math.nan, math.inf], ids=str)
@pytest.mark.parametrize("name", FIELDS)
def test_what_a_batch_brings_is_looked_at_before_it_is_learned_from(name: str, value: float, budget: int) -> None:
    error = fault(state_of(), pack(spoiled(name, value), budget), imitation)
    assert str(error) == (
        f"{FIELDS[name]} is {value} at sample b/0, position 2, token 22; so are 1 more of the micro-batch"
    )
    expected = {"term": FIELDS[name], "value": str(value), "others": 1, "sample": "b/0", "position": 2, "token": 22}
    assert error.found == expected


def at_token(token: int, change: Callable[[Tensor], Tensor]) -> Callable[[Policy, Batch], Sequence[Loss]]:
    """The loss, changed in the term of one token."""

    def loss(policy: Policy, batch: Batch) -> Sequence[Loss]:
        logprobs_A, _ = policy.score(batch)
        here_A = batch.tokens_N[batch.action_A] == token
        total = logprobs_A[~here_A].sum() + change(logprobs_A[here_A]).sum()
        return (Loss(total, "tokens", terms={TERM: logprobs_A}),)

    return loss


def test_a_term_that_is_not_finite_is_named() -> None:
    def loss(policy: Policy, batch: Batch) -> Sequence[Loss]:
        logprobs_A, _ = policy.score(batch)
        here_A = batch.tokens_N[batch.action_A] == 13
        logprobs_A = torch.where(here_A, logprobs_A * math.nan, logprobs_A)
        return (Loss(logprobs_A.sum(), "tokens", terms={TERM: logprobs_A}),)

    assert str(fault(state_of(), pack(rows(), 100), loss)) == f"{TERM} is nan at sample a/1, position 1, token 13"


def test_where_a_loss_overflows_the_token_is_found_by_its_slope() -> None:
    error = fault(state_of(), pack(rows(), 100), at_token(21, lambda x_A: (x_A + 1000.0).exp()))
    assert str(error) == f"the loss's slope in {TERM} is inf at sample b/0, position 1, token 21"


def test_a_gradient_that_is_not_finite_though_the_loss_is_has_its_token_too() -> None:
    error = fault(state_of(), pack(rows(), 8), at_token(11, lambda x_A: (x_A - x_A.detach()).abs().sqrt()))
    assert error.found["term"] == f"the loss's slope in {TERM}"
    assert (error.found["sample"], error.found["position"], error.found["token"]) == ("a/0", 1, 11)


def test_of_a_backward_pass_that_overflows_the_weight_is_named() -> None:
    state = state_of()
    name, master = list(state.policy.masters.items())[3]
    master.register_hook(lambda gradient: gradient * math.inf)
    error = fault(state, pack(rows(), 100), imitation)
    assert str(error).startswith(f"the gradient of {name} is not finite, though the losses and their slopes")


def test_weights_that_are_not_finite_are_seen_in_the_first_log_probability() -> None:
    state = state_of()
    with torch.no_grad():
        list(state.policy.masters.values())[-1].fill_(math.nan)
    with pytest.raises(NonFiniteError, match=f"{TERM} is nan at sample a/0, position 0, token 10"):
        update(state, pack(rows(), 100), imitation, 10)


def test_the_batch_is_kept_without_pickling(tmp_path: Path) -> None:
    batches = pack(spoiled("advantages", math.nan), 8)
    error = fault(state_of(), batches, imitation)
    told = keep_evidence(tmp_path, 7, batches, error)
    assert told == f"step 7 was not applied, and its batch is kept in {tmp_path / 'failed-step-000007.json'}"
    found = json.loads((tmp_path / "failed-step-000007.json").read_text())
    assert found["microbatches"] == [{"names": list(batch.names)} for batch in batches]
    assert (found["step"], found["sample"], found["message"]) == (7, "b/0", str(error))
    kept = load_file(tmp_path / "failed-step-000007.safetensors")
    for number, batch in enumerate(batches):
        assert torch.equal(kept[f"{number}/tokens_N"], batch.tokens_N)
        assert torch.equal(kept[f"{number}/source_A"], batch.source_A)
        assert torch.equal(kept[f"{number}/advantages"].isnan(), batch.fields["advantages"].isnan())
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_a_full_disk_hides_nothing(tmp_path: Path) -> None:
    error = fault(state_of(), pack(spoiled("rewards", math.nan), 100), imitation)
    told = keep_evidence(tmp_path / "nowhere", 7, pack(rows(), 100), error)
    assert told.startswith("step 7 was not applied; its batch could not be kept: ")
