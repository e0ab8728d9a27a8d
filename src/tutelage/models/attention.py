"""Attention over packed spans: every span sees its context and itself, nothing else.

All the rest of a transformer works position by position and needs no padding. Only here are spans of similar size laid
side by side in blocks, as much padded as that costs little. Registered with transformers, so that one function serves
every architecture that dispatches its attention.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

from tutelage.errors import ModelError
from tutelage.models.layout import Layout, Varlen

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # before torch 2.10
    varlen_attn = None

PACKED = "tutelage_packed"

# Below this many keys, products of small matrices beat the fused kernels on a CPU (2 to 8 times in bf16).
_SHORT = 512


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
    if softcap is None and _has_varlen(query_1HND):
        return _varlen_attention(query_1HND, key_1JND, value_1JND, layout.varlen, scale, sliding_window)[None], None
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


def _has_varlen(query_1HND: Tensor) -> bool:
    """Is there a kernel for these queries? It is FlashAttention's: half precision, heads of up to 256 numbers."""
    half = query_1HND.dtype in (torch.bfloat16, torch.float16)
    return varlen_attn is not None and query_1HND.is_cuda and half and query_1HND.shape[-1] <= 256


def _varlen_attention(
    query_1HND: Tensor, key_1JND: Tensor, value_1JND: Tensor, spans: Varlen, scale: float, window: int | None
) -> Tensor:
    """[N, H, D]. A span's last query sees the last key, the query before it one key less: aligned bottom right."""
    assert varlen_attn is not None
    return varlen_attn(
        query_1HND[0].transpose(0, 1),
        _gather(key_1JND, spans.key_K),
        _gather(value_1JND, spans.key_K),
        spans.query_starts,
        spans.key_starts,
        spans.queries,
        spans.keys,
        scale=scale,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=True,
    )


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
