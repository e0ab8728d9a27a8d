"""Noise on the embeddings while a model is fine-tuned: NEFTune."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.models.policy import Policy
from tutelage.types import Batch


@contextmanager
def noisy_embeddings(policy: Policy, batch: Batch, alpha: float, seeds: Sequence[int]) -> Iterator[None]:
    """Adds uniform noise within alpha / sqrt(length * width) to the embeddings of each sequence.

    Jain et al., 2023, NEFTune (2310.05914).

    Args:
        batch: sequences without context, each a span of its own.
        seeds: one for each sequence: its noise does not depend on what it is packed with.
    """
    embedding = policy.module.get_input_embeddings()
    width = embedding.weight.shape[1]
    parts: list[Tensor] = []
    for span, seed in zip(batch.spans, seeds, strict=True):
        noise_TD = torch.rand(span.length, width, generator=torch.Generator().manual_seed(seed)).mul_(2.0).sub_(1.0)
        parts.append(noise_TD.mul_(alpha / (span.length * width) ** 0.5))
    noise_ND = torch.cat(parts)

    def add(module: Any, inputs: Any, embedded: Tensor) -> Tensor:
        missing = embedded.shape[-2] - len(noise_ND)  # positions that only fill up
        return embedded + F.pad(noise_ND, (0, 0, 0, missing)).to(embedded)

    handle = embedding.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
