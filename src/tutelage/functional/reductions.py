"""Sums over actions with the unit they must be divided by, and the same as means over padded tensors.

| Reduction | Sum | Unit | Whose |
|---|---|---|---|
| token_sum | sum of all actions | tokens | supervised learning; DAPO (2503.14476) |
| sequence_mean_sum | sum of the sequences' means | sequences | GRPO (2402.03300) |
| constant_length_sum | sum of all actions / a constant length | sequences | Dr. GRPO (2503.20783) |

A sum here is not yet a loss: only the update divides it, once, by the global count of its unit, so that
accumulated, sharded and packed batches agree with the whole. A `sum, unit` pair is the beginning of a
`types.Loss`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.functional.masks import flatten
from tutelage.types import Unit


def lengths(sequence_A: Tensor, sequences: int) -> Tensor:
    """Actions of each sequence: [B] int64; 0 for a sequence without any."""
    assert sequence_A.ndim == 1, sequence_A.shape
    return torch.bincount(sequence_A, minlength=sequences)


def sequence_sums(values_A: Tensor, sequence_A: Tensor, sequences: int) -> Tensor:
    """Sum of each sequence's values: [B]; 0 for a sequence without any action."""
    assert values_A.shape == sequence_A.shape, (values_A.shape, sequence_A.shape)
    return values_A.new_zeros(sequences).index_add(0, sequence_A, values_A)


def sequence_means(values_A: Tensor, sequence_A: Tensor, sequences: int) -> Tensor:
    """Mean of each sequence's values: [B]; 0 for a sequence without any action."""
    return sequence_sums(values_A, sequence_A, sequences) / lengths(sequence_A, sequences).clamp(min=1)


def token_sum(values_A: Tensor) -> tuple[Tensor, Unit]:
    """Every action counts the same. Returns the sum, a scalar, and its unit."""
    assert values_A.ndim == 1, values_A.shape
    return values_A.sum(), "tokens"


def sequence_mean_sum(values_A: Tensor, sequence_A: Tensor, sequences: int) -> tuple[Tensor, Unit]:
    """Every sequence counts the same, however long. Returns the sum of the sequences' means, and its unit."""
    return sequence_means(values_A, sequence_A, sequences).sum(), "sequences"


def constant_length_sum(values_A: Tensor, length: float = 1.0) -> tuple[Tensor, Unit]:
    """Every action counts the same, per sequence of a nominal length; 1 gives the plain sum per sequence."""
    assert values_A.ndim == 1, values_A.shape
    assert length > 0, length
    return values_A.sum() / length, "sequences"


def masked_token_mean(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over all entries under the mask; 0 where there is none."""
    values_A, _ = flatten(values_BT, mask_BT)
    return token_sum(values_A)[0] / max(len(values_A), 1)


def masked_sequence_mean(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over the rows of the mean over each row's entries; a row without any counts as 0."""
    rows = max(len(values_BT), 1)
    return sequence_mean_sum(*flatten(values_BT, mask_BT), len(values_BT))[0] / rows


def masked_constant_length_mean(values_BT: Tensor, mask_BT: Tensor, length: float) -> Tensor:
    """Mean over the rows of the sum over each row's entries / length."""
    values_A, _ = flatten(values_BT, mask_BT)
    return constant_length_sum(values_A, length)[0] / max(len(values_BT), 1)
