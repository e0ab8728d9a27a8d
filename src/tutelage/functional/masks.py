"""From padded tensors to flat actions: the only place where a mask is read."""

from __future__ import annotations

import torch
from torch import Tensor


def flatten(values_BT: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Takes the masked entries of a padded tensor out, row by row.

    Args:
        values_BT: [B, T] anything known of each position.
        mask_BT: [B, T] bool, true where the policy acted.

    Returns:
        values_A: [A] the entries under the mask; carries the gradient.
        sequence_A: [A] int64, the row each came from, ascending.
    """
    assert values_BT.ndim == 2, values_BT.shape
    assert values_BT.shape == mask_BT.shape, (values_BT.shape, mask_BT.shape)
    assert mask_BT.dtype == torch.bool, mask_BT.dtype
    return values_BT[mask_BT], mask_BT.nonzero()[:, 0]
