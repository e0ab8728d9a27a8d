"""Advantages by hand, and what must hold for any rewards."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tutelage.functional import advantages

Credit = Callable[[Tensor, Tensor], Tensor]
ALL: list[Credit] = [
    advantages.group_centred,
    advantages.group_scaled,
    advantages.leave_one_out,
    advantages.batch_centred,
]


def test_by_hand() -> None:
    rewards_PG = torch.tensor([[1.0, 2.0, 6.0, math.nan], [5.0, 1.0, 1.0, 1.0]])
    valid_PG = torch.tensor([[True, True, True, False], [True, True, False, False]])
    expected = torch.tensor([[-2.0, -1.0, 3.0, 0.0], [2.0, -2.0, 0.0, 0.0]])
    torch.testing.assert_close(advantages.group_centred(rewards_PG, valid_PG), expected)
    std_P1 = torch.tensor([[math.sqrt(14 / 2)], [math.sqrt(8)]])
    torch.testing.assert_close(advantages.group_scaled(rewards_PG, valid_PG), expected / (std_P1 + 1e-4))
    others = torch.tensor([[1.0 - 4.0, 2.0 - 3.5, 6.0 - 1.5, 0.0], [5.0 - 1.0, 1.0 - 5.0, 0.0, 0.0]])
    torch.testing.assert_close(advantages.leave_one_out(rewards_PG, valid_PG), others)
    batch = torch.tensor([[-2.0, -1.0, 3.0, 0.0], [2.0, -2.0, 0.0, 0.0]])  # the mean of all five is 3 as well
    torch.testing.assert_close(advantages.batch_centred(rewards_PG, valid_PG), batch)


@pytest.mark.parametrize("credit", ALL)
@pytest.mark.parametrize("valid", [[True] * 7, [True, False, False, True, True, False, True]])
def test_equal_rewards_teach_exactly_nothing(credit: Credit, valid: list[bool]) -> None:
    """0.1 has no exact mean in floating point: the centred rewards would be 1e-9, and scaled 1e-5."""
    rewards_PG = torch.full((2, 7), 0.1)
    assert credit(rewards_PG, torch.tensor([valid, valid])).eq(0).all()


@pytest.mark.parametrize("credit", ALL[:3])
def test_one_valid_sample_teaches_nothing_and_none_neither(credit: Credit) -> None:
    rewards_PG = torch.tensor([[3.0, math.inf, math.nan], [-math.inf, math.nan, 2.0]])
    valid_PG = torch.tensor([[True, False, False], [False, False, False]])
    assert credit(rewards_PG, valid_PG).tolist() == [[0.0] * 3] * 2
    assert credit(torch.tensor([[5.0]]), torch.tensor([[True]])).tolist() == [[0.0]]


def test_whole_numbers_are_rewards_too() -> None:
    credit_PG = advantages.group_centred(torch.tensor([[0, 1, 1]]), torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(credit_PG, torch.tensor([[-2 / 3, 1 / 3, 1 / 3]]))


@st.composite
def groups(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    prompts, group = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    numbers = st.floats(-1e4, 1e4, width=32)
    size = prompts * group
    rewards = draw(st.lists(numbers, min_size=size, max_size=size))
    valid = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    return torch.tensor(rewards).view(prompts, group), torch.tensor(valid).view(prompts, group)


@settings(max_examples=100, deadline=None)
@given(groups(), st.floats(-100, 100, width=32))
def test_finite_centred_and_blind_to_a_shift(both: tuple[Tensor, Tensor], shift: float) -> None:
    rewards_PG, valid_PG = both[0].double(), both[1]
    for credit in ALL:
        credit_PG = credit(rewards_PG, valid_PG)
        assert credit_PG.isfinite().all()
        assert credit_PG[~valid_PG].eq(0).all()
        torch.testing.assert_close(credit(rewards_PG + shift, valid_PG), credit_PG, rtol=1e-6, atol=1e-6)
        sums = credit_PG.sum() if credit is advantages.batch_centred else credit_PG.sum(1)
        torch.testing.assert_close(sums, torch.zeros_like(sums), rtol=0, atol=1e-6)


def test_whitened_and_scaled_by_hand() -> None:
    torch.testing.assert_close(advantages.whitened(torch.tensor([1.0, 2.0, 3.0])), torch.tensor([-1.0, 0.0, 1.0]))
    assert advantages.whitened(torch.full((5,), 0.1)).eq(0).all()
    assert advantages.whitened(torch.tensor([3.0])).tolist() == [0.0]
    rewards_PG, valid_PG = torch.tensor([[0.0, 2.0], [4.0, 9.0]]), torch.tensor([[True, True], [True, False]])
    centred_PG = advantages.group_centred(rewards_PG, valid_PG)
    scaled_PG = advantages.batch_scaled(centred_PG, rewards_PG, valid_PG)
    torch.testing.assert_close(scaled_PG, torch.tensor([[-1.0, 1.0], [0.0, 0.0]]) / (2.0 + advantages.STD_EPS))


def test_credit_by_role_by_hand() -> None:
    """Role 0 has games 4, 5, 7 (in game 7 two moves); role 1 games 4 and 7; game 6 could not be rewarded."""
    rewards_PG = torch.tensor([[1.0, -2.0, 3.0], [5.0, math.nan, math.nan], [-1.0, -3.0, math.nan]])
    valid_PG = torch.tensor([[True, True, True], [True, False, False], [True, True, False]])
    episode_PG = torch.tensor([[4, 5, 7], [7, 6, -1], [4, 7, -1]])
    role_P = torch.tensor([0, 0, 1])
    found_PG = advantages.role_centred(rewards_PG, valid_PG, role_P, episode_PG)
    expected = [[1.0 - 1.0, -2.0 - 2.5, 3.0 + 0.5], [5.0 + 0.5, 0.0, 0.0], [-1.0 + 3.0, -3.0 + 1.0, 0.0]]
    torch.testing.assert_close(found_PG, torch.tensor(expected))
    scaled_PG = advantages.role_scaled(rewards_PG, valid_PG, role_P)
    first, second = torch.tensor([1.0, -2.0, 3.0, 5.0]), torch.tensor([-1.0, -3.0])
    torch.testing.assert_close(scaled_PG[:2][valid_PG[:2]], (first - 1.75) / (first.std() + 1e-4))
    torch.testing.assert_close(scaled_PG[2, :2], (second + 2.0) / (second.std() + 1e-4))
    assert scaled_PG[~valid_PG].eq(0).all()


def test_credit_by_role_takes_out_what_a_role_expects() -> None:
    """Each role once in every game: the mean advantage of a role is 0, wherever its payoffs lie."""
    torch.manual_seed(0)
    rewards_PG = torch.randn(2, 50) + torch.tensor([[3.0], [-3.0]])
    given = rewards_PG, torch.ones(2, 50, dtype=torch.bool), torch.arange(2)
    for credit_PG in (advantages.role_centred(*given, torch.arange(50).expand(2, 50)), advantages.role_scaled(*given)):
        torch.testing.assert_close(credit_PG.mean(1), torch.zeros(2), atol=1e-6, rtol=0.0)


def test_equal_rewards_of_a_role_and_a_single_game_teach_exactly_nothing() -> None:
    rewards_PG = torch.tensor([[0.1] * 7, [-0.1] * 7])
    valid_PG, role_P, episode_PG = torch.ones(2, 7, dtype=torch.bool), torch.arange(2), torch.arange(7).expand(2, 7)
    assert advantages.role_centred(rewards_PG, valid_PG, role_P, episode_PG).eq(0).all()
    assert advantages.role_scaled(rewards_PG, valid_PG, role_P).eq(0).all()
    one_PG = torch.zeros(2, 7, dtype=torch.int64)
    assert advantages.role_centred(torch.randn(2, 7), valid_PG, role_P, one_PG).eq(0).all()
    nobody = torch.zeros(2, 7, dtype=torch.bool)
    assert advantages.role_centred(rewards_PG, nobody, role_P, episode_PG).eq(0).all()


def test_length_rewards_by_hand() -> None:
    lengths_PG = torch.tensor([[10, 20, 30, 99], [5, 5, 5, 5]])
    correct_PG = torch.tensor([[False, True, True, True], [True] * 4])
    valid_PG = torch.tensor([[True, True, True, False], [True] * 4])
    rewards_PG = advantages.length_rewards(lengths_PG, correct_PG, valid_PG)
    assert rewards_PG.tolist() == [[0.0, 0.0, -0.5, 0.0], [0.0] * 4]
