"""The decode step in C++: all layers in one call (kernels/decode.cpp), on weights packed once per update."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from tutelage.engines.decoder import Prefilled
from tutelage.engines.pages import PAGE, PagePool
from tutelage.models.layout import rounded_up
from tutelage.models.lean import LeanModel

# As in kernels/decode.cpp.
_BLOCK = 32  # outputs of one packed block of a weight
_ROWS = 8  # products see multiples of so many rows
_PORTION = 512  # tokens of prompts that are taken in at once


class CompiledDecoder:
    """A `Decoder` for models that `fits_kernels` accepts. Keeps a packed copy of the weights beside the module's own.

    A page of keys holds them as [D, PAGE], so that the scores of a page are sums of whole vectors.
    """

    def __init__(self, module: PreTrainedModel, pool: PagePool) -> None:
        self.model, self.pool = LeanModel(module), pool
        self.logits_BV = torch.empty(0, 0)
        self.cos_TD, self.sin_TD = self._angles(1024)
        self.windows = [self.model.window(layer.self_attn) or 0 for layer in self.model.body.layers]
        self.packed: dict[str, Tensor] = {}
        self.sources: dict[str, tuple[nn.Module, ...]] = {}  # of what is packed
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        self.layers: list[Tensor] = []
        body, module = self.model.body, self.model.module
        for number, layer in enumerate(body.layers):
            attention, mlp, name = layer.self_attn, layer.mlp, f"{number}."
            projections = attention.q_proj, attention.k_proj, attention.v_proj
            gate = self._pack(name + "gate", mlp.gate_proj)
            up = self._pack(name + "up", mlp.up_proj)
            # The order of the slots in kernels/decode.cpp.
            self.layers += [
                layer.input_layernorm.weight,
                self._pack(name + "qkv", *projections),
                _bias(*projections),
                attention.q_norm.weight if hasattr(attention, "q_norm") else torch.empty(0),
                attention.k_norm.weight if hasattr(attention, "k_norm") else torch.empty(0),
                self._pack(name + "out", attention.o_proj),
                _bias(attention.o_proj),
                layer.post_attention_layernorm.weight,
                gate,
                up,
                self._pack(name + "down", mlp.down_proj),
            ]
        self.head = self._pack("head", module.lm_head)

    @torch.no_grad()
    def outdated(self, version: int) -> str | None:
        for name, layers in self.sources.items():
            packed = self.packed[name]
            block = version % len(packed)
            rows = _rows(layers, block * _BLOCK)
            if not _unpacked(packed[block])[: len(rows)].equal(rows):
                return name
        return None

    def step(self, tokens_B: Tensor, positions_B: Tensor, pages_BW: Tensor) -> Tensor:
        return self._forward(tokens_B, positions_B, pages_BW.contiguous(), torch.arange(len(tokens_B)))

    def prefill(self, prompts: Sequence[tuple[int, ...]], pages: Sequence[list[int]]) -> list[Prefilled]:
        tails = self.pool.take(len(prompts))
        table_BW = torch.zeros(len(prompts), max(map(len, pages)) + 1, dtype=torch.int64)
        for row, (own, tail) in enumerate(zip(pages, tails, strict=True)):
            table_BW[row, : len(own) + 1] = torch.tensor([*own, tail])
        lengths_B = torch.tensor([len(prompt) for prompt in prompts])
        row_N = torch.arange(len(prompts)).repeat_interleave(lengths_B)
        ends_B = lengths_B.cumsum(0)
        tokens_N = torch.tensor([token for prompt in prompts for token in prompt])
        positions_N = torch.arange(len(tokens_N)) - (ends_B - lengths_B)[row_N]
        logits = []
        # In portions, each of which finds the keys of those before it in their pages.
        for start in range(0, len(tokens_N), _PORTION):
            part = slice(start, start + _PORTION)
            asked_B = ends_B - 1 - start
            asked_B = asked_B[(asked_B >= 0) & (asked_B < _PORTION)]
            table_NW = table_BW[row_N[part]]
            logits.append(self._forward(tokens_N[part], positions_N[part], table_NW, asked_B).clone())
        prefilled = [
            Prefilled(len(prompt), own, self.pool.cache[:, :, tail].clone(), logits_V)
            for prompt, own, tail, logits_V in zip(prompts, pages, tails, torch.cat(logits), strict=True)
        ]
        self.pool.release(tails)
        return prefilled

    def _forward(self, tokens_N: Tensor, positions_N: Tensor, pages_NW: Tensor, asked_B: Tensor) -> Tensor:
        """Takes tokens into their pages; returns the logits of those asked for, [B, V]."""
        body, config = self.model.body, self.model.config
        rows = rounded_up(len(asked_B), _ROWS)
        if len(self.logits_BV) < rows:
            self.logits_BV = torch.empty(rows, self.head.shape[0] * _BLOCK)
        if pages_NW.shape[1] * PAGE > len(self.cos_TD):
            self.cos_TD, self.sin_TD = self._angles(2 * pages_NW.shape[1] * PAGE)
        return torch.ops.tutelage.step(
            self.layers,
            self.windows,
            body.embed_tokens.weight,
            body.norm.weight,
            self.head,
            self.cos_TD,
            self.sin_TD,
            self.model.heads,
            self.model.key_heads,
            config.intermediate_size,
            config.rms_norm_eps,
            body.layers[0].self_attn.scaling,
            tokens_N,
            positions_N,
            pages_NW,
            asked_B,
            self.pool.cache,
            self.logits_BV,
        )

    def _angles(self, positions: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines of every position, rounded as the learner's own forward rounds them."""
        like = torch.empty(0, dtype=self.pool.cache.dtype)
        cos_1TD, sin_1TD = self.model.body.rotary_emb(like, torch.arange(positions)[None])
        return cos_1TD[0].float().contiguous(), sin_1TD[0].float().contiguous()

    def _pack(self, name: str, *layers: nn.Module) -> Tensor:
        """[blocks, K, _BLOCK] of the layers' outputs one after the other; in bf16 pairs of inputs lie side by side."""
        weight_OK = torch.cat([layer.weight for layer in layers]) if len(layers) > 1 else layers[0].weight.detach()
        missing = -weight_OK.shape[0] % _BLOCK
        if missing:
            weight_OK = F.pad(weight_OK, (0, 0, 0, missing))
        shape = weight_OK.shape[0] // _BLOCK, weight_OK.shape[1], _BLOCK
        if name not in self.packed:
            self.packed[name] = torch.empty(shape, dtype=weight_OK.dtype)
        packed, self.sources[name] = self.packed[name], layers
        if weight_OK.dtype == torch.bfloat16:  # a pair is moved as one 32-bit number
            weight_OK = weight_OK.view(torch.int32)
            packed.view(shape[0], -1).view(torch.int32).view(shape[0], -1, _BLOCK).copy_(
                weight_OK.view(shape[0], _BLOCK, -1).transpose(1, 2)
            )
        else:
            packed.copy_(weight_OK.view(shape[0], _BLOCK, -1).transpose(1, 2))
        return packed


def _unpacked(block_KO: Tensor) -> Tensor:
    """[_BLOCK, K] the outputs' weights of one packed block."""
    if block_KO.dtype == torch.bfloat16:
        return block_KO.flatten().view(torch.int32).view(-1, _BLOCK).t().contiguous().view(torch.bfloat16)
    return block_KO.t()


def _rows(layers: Sequence[nn.Module], start: int) -> Tensor:
    """The rows from `start` on, as many as a block has, of the layers' weights one after the other."""
    found: list[Tensor] = []
    for layer in layers:
        size = len(layer.weight)
        found.append(layer.weight[max(0, start) : min(size, max(0, start + _BLOCK))])
        start -= size
    return torch.cat(found)


def _bias(*layers: nn.Module) -> Tensor:
    """The layers' biases in fp32, padded like their outputs; empty where there are none."""
    if layers[0].bias is None:
        return torch.empty(0)
    bias_O = torch.cat([layer.bias for layer in layers]).float()
    return F.pad(bias_O, (0, -len(bias_O) % _BLOCK))
