"""Sums by hand, padded = packed, and gradients."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tutelage.functional import reductions
from tutelage.functional.masks import flatten

VALUES_A = torch.tensor([1.0, 2.0, 3.0, 10.0])
SEQUENCE_A = torch.tensor([0, 0, 0, 2])  # sequences 1 and 3 are without any action


def test_flatten_takes_the_masked_entries_row_by_row() -> None:
    values_BT = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]], requires_grad=True)
    mask_BT = torch.tensor([[False, True, True], [False, False, False], [True, False, True]])
    values_A, sequence_A = flatten(values_BT, mask_BT)
    assert values_A.tolist() == [2.0, 3.0, 7.0, 9.0]
    assert sequence_A.tolist() == [0, 0, 2, 2]
    (values_A * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert values_BT.grad is not None
    assert values_BT.grad.tolist() == [[0, 1, 2], [0, 0, 0], [3, 0, 4]]


def test_of_each_sequence_by_hand() -> None:
    assert reductions.lengths(SEQUENCE_A, 4).tolist() == [3, 0, 1, 0]
    assert reductions.sequence_sums(VALUES_A, SEQUENCE_A, 4).tolist() == [6.0, 0.0, 10.0, 0.0]
    assert reductions.sequence_means(VALUES_A, SEQUENCE_A, 4).tolist() == [2.0, 0.0, 10.0, 0.0]


def test_sums_and_units_by_hand() -> None:
    total, unit = reductions.token_sum(VALUES_A)
    assert (total.item(), unit) == (16.0, "tokens")
    total, unit = reductions.sequence_mean_sum(VALUES_A, SEQUENCE_A, 4)
    assert (total.item(), unit) == (12.0, "sequences")
    total, unit = reductions.constant_length_sum(VALUES_A, 8)
    assert (total.item(), unit) == (2.0, "sequences")


def test_gradients_by_hand() -> None:
    values_A = VALUES_A.clone().requires_grad_()
    (grad,) = torch.autograd.grad(reductions.sequence_mean_sum(values_A, SEQUENCE_A, 4)[0], values_A)
    torch.testing.assert_close(grad, torch.tensor([1 / 3, 1 / 3, 1 / 3, 1.0]))
    (grad,) = torch.autograd.grad(reductions.constant_length_sum(values_A, 8)[0], values_A)
    assert grad.tolist() == [0.125] * 4


def test_nothing_sums_to_nothing() -> None:
    nothing = torch.zeros(0, requires_grad=True)
    whose = torch.zeros(0, dtype=torch.int64)
    for total, _ in (reductions.token_sum(nothing), reductions.sequence_mean_sum(nothing, whose, 2)):
        assert total.item() == 0.0
        assert torch.autograd.grad(total, nothing)[0].shape == (0,)
    nowhere_BT = torch.zeros(2, 3, dtype=torch.bool)
    assert reductions.masked_token_mean(torch.ones(2, 3), nowhere_BT).item() == 0.0
    assert reductions.masked_sequence_mean(torch.ones(2, 3), nowhere_BT).item() == 0.0


@st.composite
def padded(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    rows, time = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    return torch.randn(rows, time, generator=generator), torch.rand(rows, time, generator=generator) < 0.6


@settings(max_examples=50, deadline=None)
@given(padded())
def test_packed_is_padded(both: tuple[Tensor, Tensor]) -> None:
    """Against the formulas with a mask, as padded code writes them."""
    values_BT, mask_BT = both
    rows, masked_BT = len(values_BT), torch.where(mask_BT, values_BT, 0.0)
    torch.testing.assert_close(
        reductions.masked_token_mean(values_BT, mask_BT), masked_BT.sum() / mask_BT.sum().clamp(min=1)
    )
    torch.testing.assert_close(
        reductions.masked_sequence_mean(values_BT, mask_BT),
        (masked_BT.sum(1) / mask_BT.sum(1).clamp(min=1)).mean(),
    )
    torch.testing.assert_close(
        reductions.masked_constant_length_mean(values_BT, mask_BT, 7.0), masked_BT.sum() / (rows * 7.0)
    )
