"""Attention over packed spans: every span sees its context and itself, nothing else.

All the rest of a transformer works position by position and needs no padding. Only here are spans of similar size laid
side by side in blocks, as much padded as that costs little. Registered with transformers, so that one function serves
every architecture that dispatches its attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

from tutelage.errors import ModelError
from tutelage.types import Batch, Span

PACKED = "tutelage_packed"

# Below this many keys, products of small matrices beat the fused kernels on a CPU (2 to 8 times in bf16).
_SHORT = 512
# Blocks may be padded up to this multiple of the work that their spans need.
_PADDING = 1.3


@dataclass(frozen=True, slots=True)
class Block:
    """S spans side by side, Q queries and K keys each, padded at the end; `real_R` are the queries that exist."""

    query_SQ: Tensor
    key_SK: Tensor
    real_R: Tensor
    distance_SQK: Tensor  # from a query back to a key
    visible_SQK: Tensor
    biases: dict[tuple[int | None, torch.dtype], Tensor] = field(default_factory=dict[Any, Tensor])

    def bias(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """What is added to scores, [S, Q, K]: 0 or -inf. Made once for all layers with this sliding window."""
        if (window, dtype) not in self.biases:
            visible_SQK = self.visible_SQK if window is None else self.visible_SQK & (self.distance_SQK < window)
            self.biases[window, dtype] = torch.zeros_like(visible_SQK, dtype=dtype).masked_fill_(
                ~visible_SQK, -torch.inf
            )
        return self.biases[window, dtype]


@dataclass(frozen=True, slots=True)
class Layout:
    """The blocks of a packed batch, and where each of its N positions lies in their outputs end to end."""

    blocks: tuple[Block, ...]
    order_N: Tensor


def layout_of(batch: Batch, device: torch.device) -> Layout:
    """Computed once a batch, used by every layer."""
    blocks = tuple(_block(spans, device) for spans in _similar(batch.spans))
    places = torch.cat([block.query_SQ.flatten()[block.real_R] for block in blocks])
    order_N = torch.empty_like(places)
    order_N[places] = torch.arange(len(places), device=device)
    return Layout(blocks, order_N)


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
    queries = max(span.length for span in spans)
    keys = max(span.length + span.context_length for span in spans)
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


def packed_attention(
    module: nn.Module,
    query_1HND: Tensor,
    key_1JND: Tensor,
    value_1JND: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    layout: Layout | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in every layer. H query heads, J key heads (H a multiple of J), D their width."""
    if layout is None:
        raise ModelError("packed attention was called without a layout: score packed batches through Policy.score")
    if others.get("s_aux") is not None:
        raise ModelError("attention sinks are not supported by the packed forward")
    assert dropout == 0.0, "the packed forward has no attention dropout"
    scale = query_1HND.shape[-1] ** -0.5 if scaling is None else scaling
    query_NHD, key_NJD, value_NJD = (x[0].transpose(0, 1) for x in (query_1HND, key_1JND, value_1JND))
    outputs = []
    for block in layout.blocks:
        bias_SQK = block.bias(sliding_window, query_NHD.dtype)
        q_SQHD = _take(query_NHD, block.query_SQ)
        k_SKJD, v_SKJD = _take(key_NJD, block.key_SK), _take(value_NJD, block.key_SK)
        if softcap is not None or (q_SQHD.device.type == "cpu" and k_SKJD.shape[1] <= _SHORT):
            out_SQHD = _matmul_attention(q_SQHD, k_SKJD, v_SKJD, bias_SQK, scale, softcap)
        else:
            out_SQHD = F.scaled_dot_product_attention(
                q_SQHD.transpose(1, 2),
                k_SKJD.transpose(1, 2),
                v_SKJD.transpose(1, 2),
                attn_mask=bias_SQK[:, None],
                scale=scale,
                enable_gqa=True,
            ).transpose(1, 2)
        outputs.append(out_SQHD.flatten(0, 1).index_select(0, block.real_R))
    return torch.cat(outputs).index_select(0, layout.order_N)[None], None


def _take(values_NHD: Tensor, index_SQ: Tensor) -> Tensor:
    """[S, Q, H, D]. By index_select, whose backward is an index_add and not a sort."""
    return values_NHD.index_select(0, index_SQ.flatten()).unflatten(0, index_SQ.shape)


def _matmul_attention(
    q_SQHD: Tensor, k_SKJD: Tensor, v_SKJD: Tensor, bias_SQK: Tensor, scale: float, softcap: float | None
) -> Tensor:
    """Plain products, with the query heads that share a key head folded into rows so that keys are not repeated."""
    spans, queries, heads, width = q_SQHD.shape
    key_heads = k_SKJD.shape[2]
    shared = heads // key_heads
    q_SJRD = q_SQHD.view(spans, queries, key_heads, shared, width).permute(0, 2, 3, 1, 4)
    q_SJRD = q_SJRD.reshape(spans, key_heads, shared * queries, width)
    scores_SJRK = (q_SJRD * scale) @ k_SKJD.permute(0, 2, 3, 1)
    if softcap is not None:
        scores_SJRK = torch.tanh(scores_SJRK / softcap) * softcap
    scores_SJRK = scores_SJRK.view(spans, key_heads, shared, queries, -1)
    # In place, and the softmax in the compute type, which sums in fp32 inside: every pass over scores is dear.
    weights_SJRK = scores_SJRK.add_(bias_SQK[:, None, None]).softmax(-1).flatten(2, 3)
    out_SJRD = weights_SJRK @ v_SKJD.transpose(1, 2)
    out_SQHD = out_SJRD.view(spans, key_heads, shared, queries, width).permute(0, 3, 1, 2, 4)
    return out_SQHD.reshape(spans, queries, heads, width)


AttentionInterface.register(PACKED, packed_attention)
