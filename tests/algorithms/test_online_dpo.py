"""Online DPO: whom it compares, by hand, and that its loss is DPO's on whole answers; learning is in test_learning."""

from __future__ import annotations

import torch

from tutelage.algorithms import OnlineDpo
from tutelage.functional.preference_losses import dpo
from tutelage.types import Actions, Experience


def experience(rewards: list[list[float]], lengths: list[int], valid: list[list[bool]] | None = None) -> Experience:
    rewards_PG = torch.tensor(rewards)
    valid_PG = torch.ones_like(rewards_PG, dtype=torch.bool) if valid is None else torch.tensor(valid)
    sequence_A = torch.arange(rewards_PG.numel()).repeat_interleave(torch.tensor(lengths))
    nothing_A = torch.zeros(len(sequence_A))
    return Experience(
        rewards_PG=rewards_PG,
        valid_PG=valid_PG,
        truncated_PG=torch.zeros_like(valid_PG),
        sequence_A=sequence_A,
        rewards_A=nothing_A,
        behaviour_A=nothing_A,
        after_B=torch.zeros(rewards_PG.numel()),
    )


def test_the_best_and_the_worst_of_a_group_are_compared() -> None:
    credit = OnlineDpo().credit(
        experience([[0.5, 2.0, -1.0], [1.0, 1.0, 1.0], [3.0, 3.0, 0.0]], [1, 2, 1, 1, 1, 1, 1, 1, 2])
    )
    assert credit.advantages_A.tolist() == [0, 1, 1, -1, 0, 0, 0, 1, 0, -1, -1]


def test_neither_an_unrewarded_answer_nor_an_empty_one_is_compared() -> None:
    valid = [[False, True, True, True], [False, False, False, False]]
    found = OnlineDpo().credit(
        experience([[9.0, 2.0, 1.0, -5.0], [1.0, 2.0, 0.0, 0.0]], [0, 1, 1, 0, 0, 0, 0, 0], valid)
    )
    assert found.advantages_A.tolist() == [1, -1]
    alone = OnlineDpo().credit(experience([[1.0, 0.0]], [1, 0]))
    assert alone.advantages_A.tolist() == [0]


def test_its_loss_is_dpos_on_whole_answers() -> None:
    generator = torch.Generator().manual_seed(0)
    logprobs_A, reference_A = (-torch.rand(7, generator=generator, dtype=torch.float64) for _ in range(2))
    sequence_A = torch.tensor([0, 0, 1, 2, 2, 2, 3])  # worse, better; better, worse
    signs = torch.tensor([-1.0, -1.0, 1.0, 1.0, 1.0, 1.0, -1.0], dtype=torch.float64)
    logprobs_A.requires_grad_()
    actions = Actions(
        logprobs_A=logprobs_A,
        entropy_A=torch.ones(7),
        advantages_A=signs,
        behaviour_A=logprobs_A.detach(),
        reference_A=reference_A,
        sequence_A=sequence_A,
        sequences=4,
    )
    loss = OnlineDpo(beta=0.3).loss(actions)
    assert loss.unit == "prompts"
    policy_B, reference_B = (torch.zeros(4).double().index_add(0, sequence_A, x) for x in (logprobs_A, reference_A))
    expected = dpo(policy_B[[1, 2]], policy_B[[0, 3]], reference_B[[1, 2]], reference_B[[0, 3]], 0.3).sum()
    torch.testing.assert_close(loss.total, expected)
    (ours,) = torch.autograd.grad(loss.total, logprobs_A, retain_graph=True)
    (theirs,) = torch.autograd.grad(expected, logprobs_A)
    torch.testing.assert_close(ours, theirs)
    assert (ours[signs > 0] < 0).all()
    assert torch.autograd.gradcheck(
        lambda x: (
            OnlineDpo().loss(Actions(**{**{f: getattr(actions, f) for f in actions.__slots__}, "logprobs_A": x})).total
        ),
        logprobs_A.detach().requires_grad_(),
    )


def test_nothing_to_compare_is_no_loss() -> None:
    nothing = torch.zeros(0, requires_grad=True)
    empty = torch.zeros(0)
    actions = Actions(nothing, empty, empty, empty, empty, torch.zeros(0, dtype=torch.int64), 0)
    loss = OnlineDpo().loss(actions)
    loss.total.backward()
    assert loss.total.item() == 0.0
