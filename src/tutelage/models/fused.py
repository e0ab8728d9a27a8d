"""The packed forward of the Llama family for learning on a CPU: transformers' own, with one pass between two products.

In plain torch a decoder layer is some sixty operations, most of which only move memory; here norm with residual sum,
rotation, and gated activation are one kernel each (kernels/layers.cpp), forward and backward, and what the backward can
make again is not kept: two thirds of the time, half of the memory. `Policy` compares it with transformers' own forward
when a model is loaded.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from tutelage.models.attention import packed_attention
from tutelage.models.layout import Layout
from tutelage.models.lean import LeanModel

_NOTHING = torch.empty(0)


def hidden_states(
    module: PreTrainedModel, tokens_N: Tensor, positions_N: Tensor, layout: Layout, checkpointed: bool = False
) -> Tensor:
    """The last hidden states, [N, D].

    Args:
        checkpointed: layers keep their inputs only, and are computed again in the backward pass.
    """
    lean = LeanModel(module)
    layers = list(lean.body.layers)
    hidden_ND = lean.body.embed_tokens(tokens_N)
    angles = tuple(x[0].contiguous() for x in lean.body.rotary_emb(hidden_ND[None], positions_N[None]))
    norms = [*(layer.input_layernorm for layer in layers[1:]), lean.body.norm]
    normed_ND = _norm(layers[0].input_layernorm, hidden_ND)
    for layer, norm in zip(layers, norms, strict=True):
        inputs = lean, layer, norm, hidden_ND, normed_ND, angles, layout
        if checkpointed:
            hidden_ND, normed_ND = checkpoint(_layer, *inputs, use_reentrant=False, preserve_rng_state=False)
        else:
            hidden_ND, normed_ND = _layer(*inputs)
    return normed_ND


def _layer(
    lean: LeanModel,
    layer: nn.Module,
    next_norm: nn.Module,
    hidden_ND: Tensor,
    normed_ND: Tensor,
    angles: tuple[Tensor, Tensor],
    layout: Layout,
) -> tuple[Tensor, Tensor]:
    """The residual stream after the layer, and the norm of it that the next one begins with."""
    attended_ND = _attention(lean, layer.self_attn, normed_ND, angles, layout)
    hidden_ND, normed_ND = _add_norm(layer.post_attention_layernorm, hidden_ND, attended_ND)
    mlp = layer.mlp
    acted_ND = _GatedDown.apply(mlp.gate_proj(normed_ND), mlp.up_proj(normed_ND), mlp.down_proj.weight)
    return _add_norm(next_norm, hidden_ND, acted_ND)


def _attention(
    lean: LeanModel, attention: nn.Module, normed_ND: Tensor, angles: tuple[Tensor, Tensor], layout: Layout
) -> Tensor:
    query_NHE = attention.q_proj(normed_ND).unflatten(1, (lean.heads, lean.width))
    key_NJE = attention.k_proj(normed_ND).unflatten(1, (lean.key_heads, lean.width))
    value_NJE = attention.v_proj(normed_ND).unflatten(1, (lean.key_heads, lean.width))
    if hasattr(attention, "q_norm"):
        query_NHE, key_NJE = _norm(attention.q_norm, query_NHE), _norm(attention.k_norm, key_NJE)
    query_NHE, key_NJE = _Rotate.apply(query_NHE, *angles), _Rotate.apply(key_NJE, *angles)
    output_1NHE, _ = packed_attention(
        attention,
        *(x.transpose(0, 1)[None] for x in (query_NHE, key_NJE, value_NJE)),
        None,
        scaling=attention.scaling,
        sliding_window=lean.window(attention),
        layout=layout,
    )
    return attention.o_proj(output_1NHE[0].flatten(1))


def _norm(norm: nn.Module, x: Tensor) -> Tensor:
    return _Norm.apply(x, norm.weight, norm.variance_epsilon)


def _add_norm(norm: nn.Module, hidden_ND: Tensor, added_ND: Tensor) -> tuple[Tensor, Tensor]:
    return _AddNorm.apply(hidden_ND, added_ND, norm.weight, norm.variance_epsilon)


class _Norm(torch.autograd.Function):
    """RMSNorm (Zhang and Sennrich, 1910.07467). Keeps its input and one number a row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
        _, normed, factor = torch.ops.tutelage.add_norm(x, _NOTHING, weight_D, epsilon)
        ctx.save_for_backward(x, weight_D, factor)
        return normed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *torch.ops.tutelage.add_norm_backward(_NOTHING, grad.contiguous(), *ctx.saved_tensors), None


class _AddNorm(torch.autograd.Function):
    """The residual sum, and its RMSNorm."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, added: Tensor, weight_D: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        total, normed, factor = torch.ops.tutelage.add_norm(x, added, weight_D, epsilon)
        ctx.save_for_backward(total, weight_D, factor)
        ctx.set_materialize_grads(False)
        return total, normed

    @staticmethod
    def backward(ctx: Any, direct: Tensor | None, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return direct, direct, None, None
        direct = _NOTHING if direct is None else direct.contiguous()
        grad_total, grad_weight_D = torch.ops.tutelage.add_norm_backward(direct, grad.contiguous(), *ctx.saved_tensors)
        return grad_total, grad_total, grad_weight_D, None


class _Rotate(torch.autograd.Function):
    """Rotary positions (Su et al., 2104.09864). Keeps the angles only."""

    @staticmethod
    def forward(ctx: Any, x_NHE: Tensor, cos_NE: Tensor, sin_NE: Tensor) -> Tensor:
        ctx.save_for_backward(cos_NE, sin_NE)
        return torch.ops.tutelage.rotate(x_NHE, cos_NE, sin_NE, False)

    @staticmethod
    def backward(ctx: Any, grad_NHE: Tensor) -> tuple[Tensor | None, ...]:
        return torch.ops.tutelage.rotate(grad_NHE.contiguous(), *ctx.saved_tensors, True), None, None


class _GatedDown(torch.autograd.Function):
    """(silu(gate) * up) @ down.T (SwiGLU; Shazeer, 2002.05202). Keeps gate and up, not what they make."""

    @staticmethod
    def forward(ctx: Any, gate_NF: Tensor, up_NF: Tensor, down_DF: Tensor) -> Tensor:
        ctx.save_for_backward(gate_NF, up_NF, down_DF)
        return F.linear(torch.ops.tutelage.gate(gate_NF, up_NF), down_DF)

    @staticmethod
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor | None, ...]:
        gate_NF, up_NF, down_DF = ctx.saved_tensors
        grad_down_DF = grad_ND.T @ torch.ops.tutelage.gate(gate_NF, up_NF) if ctx.needs_input_grad[2] else None
        grad_gate_NF, grad_up_NF = torch.ops.tutelage.gate_backward(grad_ND @ down_DF, gate_NF, up_NF)
        return grad_gate_NF, grad_up_NF, grad_down_DF
