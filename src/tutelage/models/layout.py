"""Where the spans of a packed batch lie for attention: in padded blocks on a CPU, end to end for a kernel on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from tutelage.types import Batch, Span

# Blocks may be padded up to this multiple of the work that their spans need.
_PADDING = 1.3
_GRAIN = 16  # queries and keys of a block are multiples of it


@dataclass(frozen=True, slots=True)
class Block:
    """S spans side by side, Q queries and K keys each, padded at the end; `real_R` are the queries that exist."""

    query_SQ: Tensor
    key_SK: Tensor
    real_R: Tensor
    distance_SQK: Tensor  # from a query back to a key
    visible_SQK: Tensor
    biases: dict[tuple[int | None, torch.dtype, int, int], Tensor] = field(default_factory=dict[Any, Tensor])

    def bias(self, window: int | None, dtype: torch.dtype, key_heads: int = 1, shared: int = 1) -> Tensor:
        """What is added to scores, 0 or -inf: [S * J, R, K], J key heads, R the queries of the heads that share one.

        Made once for all layers with this sliding window.
        """
        made = window, dtype, key_heads, shared
        if made not in self.biases:
            visible_SQK = self.visible_SQK if window is None else self.visible_SQK & (self.distance_SQK < window)
            bias_SQK = torch.zeros_like(visible_SQK, dtype=dtype).masked_fill_(~visible_SQK, -torch.inf)
            self.biases[made] = bias_SQK.repeat(1, shared, 1).repeat_interleave(key_heads, 0)
        return self.biases[made]


@dataclass(frozen=True, slots=True)
class Varlen:
    """Spans end to end for a kernel that takes sequences of any length: where each begins, and the longest."""

    key_K: Tensor  # the context of each span, then the span itself
    query_starts: Tensor
    key_starts: Tensor
    queries: int
    keys: int


def _varlen_of(spans: Sequence[Span], device: torch.device) -> Varlen:
    queries = [span.length for span in spans]
    keys = [span.context_length + span.length for span in spans]
    stretches = [(s.context_start, s.context_length) for s in spans], [(s.start, s.length) for s in spans]
    key_K = torch.cat([torch.arange(a, a + n) for pair in zip(*stretches, strict=True) for a, n in pair])
    starts = (torch.tensor([0, *accumulate(some)], dtype=torch.int32, device=device) for some in (queries, keys))
    return Varlen(key_K.to(device), *starts, max(queries), max(keys))


@dataclass(frozen=True, slots=True)
class Layout:
    """The blocks of a packed batch. All are gathered at once: P are the padded queries or keys, block after block."""

    blocks: tuple[Block, ...]
    query_P: Tensor
    key_P: Tensor
    place_N: Tensor  # where each of the packed positions lies among the padded queries
    spans: tuple[Span, ...]
    _varlen: list[Varlen] = field(default_factory=list[Any])

    @property
    def varlen(self) -> Varlen:
        """The same without padding, made when it is first asked for."""
        if not self._varlen:
            self._varlen.append(_varlen_of(self.spans, self.place_N.device))
        return self._varlen[0]

    @property
    def sizes(self) -> tuple[list[int], list[int]]:
        """Padded queries of each block, and keys."""
        return [block.query_SQ.numel() for block in self.blocks], [block.key_SK.numel() for block in self.blocks]


def layout_of(batch: Batch, device: torch.device, missing: int = 0) -> Layout:
    """Computed once a batch, used by every layer.

    Args:
        missing: so many positions follow the batch's own; they see something, and nobody sees them.
    """
    blocks = tuple(_block(spans, device) for spans in _similar(batch.spans))
    query_P = torch.cat([block.query_SQ.flatten() for block in blocks])
    starts = accumulate((block.query_SQ.numel() for block in blocks), initial=0)
    real_N = torch.cat([start + block.real_R for start, block in zip(starts, blocks, strict=False)])
    place_N = torch.empty_like(real_N)
    place_N[query_P[real_N]] = real_N
    place_N = torch.cat((place_N, place_N.new_zeros(missing)))
    return Layout(blocks, query_P, torch.cat([block.key_SK.flatten() for block in blocks]), place_N, batch.spans)


def rounded_up(count: int, grain: int) -> int:
    """The next multiple. On a CPU every new shape of a product costs the time to generate its code: so few are made."""
    return -(-count // grain) * grain


def _similar(spans: Sequence[Span]) -> list[list[Span]]:
    """Groups spans, longest first, so that no block does much more work than its spans need."""
    groups: list[list[Span]] = []
    work = queries = keys = 0
    for span in sorted(spans, key=lambda s: (s.length, s.context_length), reverse=True):
        need = span.length * (span.length + span.context_length)
        wider = max(keys, span.length + span.context_length)
        padded = queries * wider * (len(groups[-1]) + 1) if groups else 0
        if not groups or padded > _PADDING * (work + need):
            groups.append([])
            work, queries, wider = 0, span.length, span.length + span.context_length
        groups[-1].append(span)
        work, keys = work + need, wider
    return groups


def _block(spans: Sequence[Span], device: torch.device) -> Block:
    queries = rounded_up(max(span.length for span in spans), _GRAIN)
    keys = rounded_up(max(span.length + span.context_length for span in spans), _GRAIN)
    start, length, context_start, context = (
        torch.tensor([getattr(span, name) for span in spans], device=device)[:, None]
        for name in ("start", "length", "context_start", "context_length")
    )
    q_Q = torch.arange(queries, device=device)[None]
    k_K = torch.arange(keys, device=device)[None]
    inside_SQ = q_Q < length
    # A padded query repeats its span's last one: it sees something, so that its softmax and gradient stay finite.
    query_position_SQ = context + torch.minimum(q_Q, length - 1)
    # Keys: the context first, then the span itself; their place among the keys is their position in the sequence.
    key_SK = torch.where(k_K < context, context_start + k_K, start + k_K - context)
    exists_SK = k_K < context + length
    visible_SQK = exists_SK[:, None, :] & (k_K[:, None, :] <= query_position_SQ[:, :, None])
    return Block(
        query_SQ=torch.where(inside_SQ, start + q_Q, start),
        key_SK=torch.where(exists_SK, key_SK, start),
        real_R=inside_SQ.flatten().nonzero()[:, 0],
        distance_SQK=query_position_SQ[:, :, None] - k_K[:, None, :],
        visible_SQK=visible_SQK,
    )
