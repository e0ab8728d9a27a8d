"""Attention over packed spans: every span sees its context and itself, nothing else.

All the rest of a transformer works position by position and needs no padding. Only here are spans of similar size laid
side by side in blocks, as much padded as that costs little. Registered with transformers, so that one function serves
every architecture that dispatches its attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
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
class Layout:
    """The blocks of a packed batch. All are gathered at once: P are the padded queries or keys, block after block."""

    blocks: tuple[Block, ...]
    query_P: Tensor
    key_P: Tensor
    place_N: Tensor  # where each of the packed positions lies among the padded queries

    @property
    def sizes(self) -> tuple[list[int], list[int]]:
        """Padded queries of each block, and keys."""
        return [block.query_SQ.numel() for block in self.blocks], [block.key_SK.numel() for block in self.blocks]


def layout_of(batch: Batch, device: torch.device) -> Layout:
    """Computed once a batch, used by every layer."""
    blocks = tuple(_block(spans, device) for spans in _similar(batch.spans))
    query_P = torch.cat([block.query_SQ.flatten() for block in blocks])
    starts = accumulate((block.query_SQ.numel() for block in blocks), initial=0)
    real_N = torch.cat([start + block.real_R for start, block in zip(starts, blocks, strict=False)])
    place_N = torch.empty_like(real_N)
    place_N[query_P[real_N]] = real_N
    return Layout(blocks, query_P, torch.cat([block.key_SK.flatten() for block in blocks]), place_N)


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
    queries, keys = layout.sizes
    gathered = zip(
        layout.blocks,
        _gather(query_1HND, layout.query_P).split(queries),
        _gather(key_1JND, layout.key_P).split(keys),
        _gather(value_1JND, layout.key_P).split(keys),
        strict=True,
    )
    outputs = []
    for block, query_PHD, key_PJD, value_PJD in gathered:
        q_SQHD = query_PHD.unflatten(0, block.query_SQ.shape)
        k_SKJD, v_SKJD = (x.unflatten(0, block.key_SK.shape) for x in (key_PJD, value_PJD))
        if softcap is not None or (q_SQHD.device.type == "cpu" and k_SKJD.shape[1] <= _SHORT):
            key_heads = k_SKJD.shape[2]
            bias_BRK = block.bias(sliding_window, q_SQHD.dtype, key_heads, q_SQHD.shape[2] // key_heads)
            out_SQHD = _matmul_attention(q_SQHD, k_SKJD, v_SKJD, bias_BRK, scale, softcap)
        else:
            out_SQHD = F.scaled_dot_product_attention(
                q_SQHD.transpose(1, 2),
                k_SKJD.transpose(1, 2),
                v_SKJD.transpose(1, 2),
                attn_mask=block.bias(sliding_window, q_SQHD.dtype)[:, None],
                scale=scale,
                enable_gqa=True,
            ).transpose(1, 2)
        outputs.append(out_SQHD.flatten(0, 1))
    return torch.cat(outputs).index_select(0, layout.place_N)[None], None


def _gather(values_1HND: Tensor, index_P: Tensor) -> Tensor:
    """[P, H, D]. By index_select, whose backward is an index_add and not a sort."""
    return values_1HND[0].transpose(0, 1).index_select(0, index_P)


def _matmul_attention(
    q_SQHD: Tensor, k_SKJD: Tensor, v_SKJD: Tensor, bias_BRK: Tensor, scale: float, softcap: float | None
) -> Tensor:
    """Plain products, B = S * J of them: the query heads that share a key head are rows, so that keys are not repeated.

    Every pass over scores is dear. So bias and scale are part of the product, and the softmax stays in the compute
    type; inside it sums in fp32.
    """
    spans, queries, heads, width = q_SQHD.shape
    key_heads = k_SKJD.shape[2]
    shared = heads // key_heads
    q_SJHQD = q_SQHD.view(spans, queries, key_heads, shared, width).permute(0, 2, 3, 1, 4)
    q_BRD = q_SJHQD.reshape(spans * key_heads, shared * queries, width)
    k_BDK = k_SKJD.permute(0, 2, 3, 1).flatten(0, 1)
    v_BKD = v_SKJD.transpose(1, 2).flatten(0, 1)
    if softcap is None:
        scores_BRK = torch.baddbmm(bias_BRK, q_BRD, k_BDK, alpha=scale)
    else:
        scores_BRK = torch.tanh(q_BRD @ k_BDK * (scale / softcap)) * softcap + bias_BRK
    out_BRD = scores_BRK.softmax(-1) @ v_BKD
    out_SQHD = out_BRD.view(spans, key_heads, shared, queries, width).permute(0, 3, 1, 2, 4)
    return out_SQHD.reshape(spans, queries, heads, width)


def compile_around_attention() -> None:
    """Keeps torch's compiler out of it: its shapes differ in every batch and block, and it is products already.

    Only when asked for, because the compiler takes a second to import.
    """
    AttentionInterface.register(PACKED, torch.compiler.disable(packed_attention))


AttentionInterface.register(PACKED, packed_attention)
