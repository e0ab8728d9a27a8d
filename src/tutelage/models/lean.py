"""The Llama family, lean: which models it is, and a forward for sampling straight on the policy's own tensors.

Llama, SmolLM, Mistral, Qwen2 and Qwen3: rotary positions, grouped key heads, a gated MLP; with or without biases on
query, key and value, query and key norms, sliding windows. Everything that is not these is left out: no gradient, no
masks, no output classes, no hooks. A test holds it to transformers' own logits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from tutelage.kernels import kernels_ready

FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})

_LANES = 16  # numbers of a vector in kernels/
_ROTATIONS = frozenset({"default", "linear", "llama3", "yarn"})  # whose angles depend on the position alone

# attend(layer, query_BTHD, key_BTJD, value_BTJD, window) -> [B, T, H * D]
Attend = Callable[[int, Tensor, Tensor, Tensor, int | None], Tensor]


def fits_kernels(module: PreTrainedModel) -> bool:
    """Whether the compiled kernels serve this module on this machine. Builds them at the first call."""
    config = module.config
    if config.model_type not in FAMILIES or module.device.type != "cpu":
        return False
    layer = module.base_model.layers[0]
    head = getattr(module, "lm_head", None)  # a reward model has none
    fits = (
        layer.self_attn.head_dim % (2 * _LANES) == 0
        and config.hidden_size % _LANES == 0
        and config.intermediate_size % _LANES == 0
        and config.hidden_act == "silu"
        and layer.mlp.down_proj.bias is None
        and (head is None or head.bias is None)
        and module.base_model.rotary_emb.rope_type in _ROTATIONS
    )
    return fits and kernels_ready()


class LeanModel:
    """Holds the module's layers, not their weights: after an update there is nothing to sync."""

    def __init__(self, module: PreTrainedModel) -> None:
        self.module = module
        self.body = module.base_model
        self.config = module.config
        self.heads: int = self.config.num_attention_heads
        self.key_heads: int = self.config.num_key_value_heads
        attention = self.body.layers[0].self_attn
        self.width: int = attention.head_dim

    def hidden(self, tokens_BT: Tensor, positions_BT: Tensor, attend: Attend) -> Tensor:
        """Last hidden states, [B, T, D]. `attend` keeps the keys and decides what is seen."""
        hidden_BTD = self.body.embed_tokens(tokens_BT)
        cos_BTD, sin_BTD = self.body.rotary_emb(hidden_BTD, positions_BT)
        rotation = cos_BTD[:, :, None], sin_BTD[:, :, None]
        for number, layer in enumerate(self.body.layers):
            normed_BTD = _norm(layer.input_layernorm, hidden_BTD)
            hidden_BTD = hidden_BTD + self._attention(number, layer.self_attn, normed_BTD, rotation, attend)
            normed_BTD = _norm(layer.post_attention_layernorm, hidden_BTD)
            mlp = layer.mlp
            gate_BTF = mlp.act_fn(_linear(mlp.gate_proj, normed_BTD))
            hidden_BTD = hidden_BTD + _linear(mlp.down_proj, gate_BTF * _linear(mlp.up_proj, normed_BTD))
        return _norm(self.body.norm, hidden_BTD)

    def logits(self, hidden_BD: Tensor) -> Tensor:
        """[B, V]."""
        return _linear(self.module.lm_head, hidden_BD)

    def _attention(
        self, number: int, attention: nn.Module, normed_BTD: Tensor, rotation: tuple[Tensor, Tensor], attend: Attend
    ) -> Tensor:
        shape = normed_BTD.shape[:-1]
        query_BTHD = _linear(attention.q_proj, normed_BTD).view(*shape, self.heads, self.width)
        key_BTJD = _linear(attention.k_proj, normed_BTD).view(*shape, self.key_heads, self.width)
        value_BTJD = _linear(attention.v_proj, normed_BTD).view(*shape, self.key_heads, self.width)
        if hasattr(attention, "q_norm"):
            query_BTHD = _norm(attention.q_norm, query_BTHD)
            key_BTJD = _norm(attention.k_norm, key_BTJD)
        query_BTHD, key_BTJD = _rotate(query_BTHD, *rotation), _rotate(key_BTJD, *rotation)
        output_BTD = attend(number, query_BTHD, key_BTJD, value_BTJD, self.window(attention))
        return _linear(attention.o_proj, output_BTD)

    def window(self, attention: nn.Module) -> int | None:
        """How far back a layer sees; None: to the beginning."""
        # Mistral slides in every layer by its config; Qwen says it layer by layer.
        if self.config.model_type == "mistral":
            return self.config.sliding_window
        return getattr(attention, "sliding_window", None)


def _linear(layer: nn.Module, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def _norm(layer: nn.Module, x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), layer.weight, layer.variance_epsilon)


def _rotate(x_BTHD: Tensor, cos_BT1D: Tensor, sin_BT1D: Tensor) -> Tensor:
    half = x_BTHD.shape[-1] // 2
    turned_BTHD = torch.cat((-x_BTHD[..., half:], x_BTHD[..., :half]), -1)
    return x_BTHD * cos_BT1D + turned_BTHD * sin_BT1D
