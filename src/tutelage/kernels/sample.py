"""The compiled sampler."""

from __future__ import annotations

import torch
from torch import Tensor


def sample(logits_BV: Tensor, uniform_B: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Tokens and their log-probabilities in two passes over fp32 logits on the CPU, [B] each.

    As `functional.logprobs.sample` at a temperature; at 0 the most probable token and its log-probability at 1.
    """
    return torch.ops.tutelage.sample(logits_BV, uniform_B, temperature)
