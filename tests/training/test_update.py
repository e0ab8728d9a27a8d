"""The update: accumulated = whole, one division by the global count, nothing applied that is not finite."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.tiny import VOCAB, tiny_model, tiny_tokenizer
from tutelage.algorithms import Algorithm, DrGrpo, Grpo, Reinforce, Rloo, supervised_loss
from tutelage.config import Optimizer
from tutelage.data.packing import Row, pack
from tutelage.errors import NonFiniteError
from tutelage.models import Policy
from tutelage.training import State, learning_rate, update
from tutelage.types import Actions, Batch, Loss


def state_of(compute: torch.dtype = torch.float32, **settings: object) -> State:
    policy = Policy(tiny_model(), tiny_tokenizer(), compute)
    return State(policy, Optimizer(**{"lr": 1e-3, **settings}))


def rows(count: int = 12) -> list[Row]:
    generator = torch.Generator().manual_seed(0)

    def tokens(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(5, VOCAB, (length,), generator=generator).tolist())

    contexts = [tokens(6), tokens(9), tokens(4)]
    fields = [{"advantages": math.sin(i), "behaviour": -5.0 - 0.1 * i} for i in range(count)]
    # Ragged on purpose: with equal lengths a wrong denominator could hide.
    return [Row(contexts[i % 3], tokens(1 + i % 7), i % 3, fields=fields[i]) for i in range(count)]


def loss_of(algorithm: Algorithm | None):
    def loss(policy: Policy, batch: Batch) -> tuple[Loss]:
        logprobs_A, entropy_A = policy.score(batch)
        actions = Actions(
            logprobs_A,
            entropy_A,
            batch.fields["advantages"],
            batch.fields["behaviour"],
            logprobs_A.detach() - 0.1,
            batch.sequence_A,
            batch.sequences,
        )
        return (supervised_loss(actions) if algorithm is None else algorithm.loss(actions),)

    return loss


ALGORITHMS = [Grpo(), Grpo(kl=0.0), DrGrpo(), Rloo(), Reinforce(), None]


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: a.type if a else "sft")
@pytest.mark.parametrize("budget", [17, 30])
def test_micro_batches_change_nothing(algorithm: Algorithm | None, budget: int) -> None:
    whole, cut = state_of(), state_of()
    assert len(pack(rows(), 10_000)) == 1
    assert len(pack(rows(), budget)) > 2
    expected = update(whole, pack(rows(), 10_000), loss_of(algorithm), 10)
    found = update(cut, pack(rows(), budget), loss_of(algorithm), 10)
    assert found == pytest.approx(expected, abs=1e-6, rel=1e-5)
    for name, master in whole.policy.masters.items():
        # AdamW's first step is lr * sign(gradient): a gradient near 0 may round either way, nothing else may.
        first = whole.optimizer.state[master]["exp_avg"]
        second = cut.optimizer.state[cut.policy.masters[name]]["exp_avg"]
        torch.testing.assert_close(second, first, atol=1e-7, rtol=1e-4)


def test_the_gradient_is_the_mean_over_tokens_or_sequences() -> None:
    """Against a plain padded loop: one row at a time, no packing, one division by hand."""
    policy = state_of().policy
    for algorithm in (None, Reinforce()):
        parts = [loss_of(algorithm)(policy, pack([row], 100)[0])[0] for row in rows()]
        count = sum(len(row.actions) for row in rows()) if parts[0].unit == "tokens" else len(rows())
        (sum(part.total for part in parts) / count).backward()
        expected = {name: master.grad.clone() for name, master in policy.masters.items()}
        policy.module.zero_grad()
        state = state_of(max_grad_norm=1e9)
        update(state, pack(rows(), 40), loss_of(algorithm), 10)
        for name, master in state.policy.masters.items():
            moment = state.optimizer.state[master]["exp_avg"] / 0.1  # (1 - beta1) * gradient
            torch.testing.assert_close(moment, expected[name], atol=1e-6, rtol=1e-4)


def test_an_empty_answer_counts_as_a_sequence_without_loss() -> None:
    extra = [*rows(), Row((5, 6, 7), (), 99, fields={"advantages": 1.0, "behaviour": []})]
    with_empty = update(state_of(), pack(extra, 10_000), loss_of(Grpo(kl=0.0)), 10)
    without = update(state_of(), pack(rows(), 10_000), loss_of(Grpo(kl=0.0)), 10)
    assert with_empty["loss"] == pytest.approx(without["loss"] * 12 / 13, rel=1e-5)


def some_zero(every: int, skip: bool) -> list[Row]:
    """Advantages of 0 in every so-manieth row, skipped or computed."""
    zero = [i % every == 0 for i in range(12)]
    return [
        replace(
            row, fields={**row.fields, "advantages": 0.0 if none else row.fields["advantages"]}, skipped=skip and none
        )
        for row, none in zip(rows(), zero, strict=True)
    ]


@pytest.mark.parametrize("algorithm", [Grpo(kl=0.0), DrGrpo(), Rloo(), Reinforce(), None])
@pytest.mark.parametrize("every", [3, 1])
def test_skipping_what_adds_nothing_changes_nothing(algorithm: Algorithm | None, every: int) -> None:
    assert algorithm is None or not algorithm.needs_zero_advantage  # None: a sum over tokens
    # eps: without it the first step is lr * sign(gradient), and a gradient near 0 may round either way.
    computed, skipping = (state_of(weight_decay=0.1, eps=1e-4) for _ in range(2))
    for now in (2, every, 2):  # the moments of the first update move the weights in one that has no gradient
        expected = update(computed, pack(some_zero(now, skip=False), 30), loss_of(algorithm), 10)
        found = update(skipping, pack(some_zero(now, skip=True), 30), loss_of(algorithm), 10)
        for name in ("loss", "grad_norm", "lr"):
            assert found[name] == pytest.approx(expected[name], abs=1e-7, rel=1e-5)
        assert ("entropy" in found) == (now > 1)
        for name, master in computed.policy.masters.items():
            torch.testing.assert_close(skipping.policy.masters[name], master, atol=1e-7, rtol=1e-6)
    assert skipping.policy.version == computed.policy.version == 3


def test_skipped_rows_are_counted_and_not_packed() -> None:
    batches = pack(some_zero(3, skip=True), 30)
    assert [row for batch in batches for row in batch.rows] == [i for i in range(12) if i % 3]
    zero = [row for row in some_zero(3, skip=True) if row.skipped]
    assert sum(batch.skipped_sequences for batch in batches) == len(zero) == 4
    assert sum(batch.skipped_tokens for batch in batches) == sum(len(row.tokens) for row in zero)
    (empty,) = pack(some_zero(1, skip=True), 30)
    assert (len(empty.tokens_N), empty.sequences, empty.skipped_sequences) == (0, 0, 12)


def test_metrics_are_of_the_tokens_that_were_scored() -> None:
    zero = [row for row in some_zero(3, skip=False) if row.fields["advantages"]]
    found = update(state_of(), pack(some_zero(3, skip=True), 30), loss_of(DrGrpo()), 10)
    expected = update(state_of(), pack(zero, 30), loss_of(DrGrpo()), 10)
    assert found["entropy"] == pytest.approx(expected["entropy"], rel=1e-6)
    assert found["loss"] == pytest.approx(expected["loss"] * 8 / 12, rel=1e-5)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_is_not_applied(where: str) -> None:
    state = state_of()
    before = {name: master.detach().clone() for name, master in state.policy.masters.items()}

    def broken(policy: Policy, batch: Batch) -> tuple[Loss]:
        logprobs_A, _ = policy.score(batch)
        if where == "loss":
            return (Loss(logprobs_A.sum() * float("nan"), "tokens"),)
        return (Loss((logprobs_A.sum() - logprobs_A.sum().detach()).abs().sqrt(), "tokens"),)  # 0, with gradient inf

    with pytest.raises(NonFiniteError, match=where):
        update(state, pack(rows(), 30), broken, 10)
    for name, master in state.policy.masters.items():
        assert torch.equal(master, before[name])
        assert master.grad is None
    assert state.policy.version == 0
    assert update(state, pack(rows(), 30), loss_of(None), 10)["grad_norm"] > 0  # and the next step is as ever


def test_clipping_bounds_the_gradient() -> None:
    state = state_of(max_grad_norm=0.01)
    norm = update(state, pack(rows(), 10_000), loss_of(None), 10)["grad_norm"]
    moments = [state.optimizer.state[master]["exp_avg"] / 0.1 for master in state.policy.masters.values()]
    assert norm > 0.01  # reported as it was
    assert torch.stack([moment.norm() for moment in moments]).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_an_update_lowers_the_loss_in_both_precisions() -> None:
    for compute in (torch.float32, torch.bfloat16):
        state = state_of(compute, lr=1e-2)
        losses = [update(state, pack(rows(), 40), _imitation, 10)["loss"] for _ in range(8)]
        assert losses[-1] < 0.8 * losses[0]


def _imitation(policy: Policy, batch: Batch) -> tuple[Loss]:
    logprobs_A, _ = policy.score(batch)
    return (Loss(-logprobs_A.sum(), "tokens"),)


def test_schedules_at_their_corners() -> None:
    linear = Optimizer(lr=1.0, warmup_steps=2, schedule="linear", final_lr_share=0.1)
    assert [learning_rate(linear, step, 12) for step in (0, 1, 2, 11)] == pytest.approx([0.5, 1.0, 1.0, 0.1])
    cosine = Optimizer(lr=1.0, schedule="cosine", final_lr_share=0.1)
    assert [learning_rate(cosine, step, 11) for step in (0, 5, 10)] == pytest.approx([1.0, 0.55, 0.1])
    assert learning_rate(Optimizer(lr=0.3), 7, 10) == 0.3
