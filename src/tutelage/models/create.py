"""A model of random weights, as a folder like any other."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from tutelage.config import Architecture
from tutelage.models.loading import quiet, save
from tutelage.seeds import derive_seed

_DEVIATION = 0.02  # of every matrix: GPT-2's, GPT-NeoX's, transformers' for Llama
_RESIDUAL = ("o_proj", "down_proj")  # matrices whose products are added to the residual stream


def llama_config(architecture: Architecture, vocabulary: int, context: int) -> LlamaConfig:
    """The config of transformers for an architecture.

    Args:
        vocabulary: how many tokens.
        context: the longest sequence, where the architecture says none.
    """
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=architecture.width,
        intermediate_size=architecture.ffn_width,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.key_heads,
        head_dim=architecture.width // architecture.heads,
        max_position_embeddings=architecture.context or context,
        rope_parameters={"rope_type": "default", "rope_theta": architecture.rope_theta},
        tie_word_embeddings=architecture.tied,
        initializer_range=_DEVIATION,
        rms_norm_eps=1e-5,  # Llama 2's
    )


def count_parameters(config: LlamaConfig) -> int:
    """How many numbers such a model has; shared ones count once. Makes no weight."""
    with quiet(), torch.device("meta"):
        return sum(weight.numel() for weight in LlamaForCausalLM(config).parameters())


def create_model(
    folder: Path,
    architecture: Architecture,
    tokenizer: PreTrainedTokenizerBase,
    end_tokens: Sequence[int],
    context: int,
    seed: int,
) -> None:
    """Writes a model of random weights with its tokenizer, whole or not at all.

    Matrices are normal with a deviation of 0.02; those that write into the residual stream, of which there are two in
    each of N layers, have 0.02 / sqrt(2 N) (GPT-2). Gains of norms are 1. Each weight's numbers depend on the seed and
    its name alone.

    Args:
        end_tokens: those at which whoever samples shall stop.
        context: the longest sequence, where the architecture says none.
    """
    config = llama_config(architecture, len(tokenizer), context)
    ends = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config.update({**ends, "eos_token_id": tokenizer.eos_token_id})
    with quiet():
        module = LlamaForCausalLM(config)
    for name, weight in module.named_parameters():
        if weight.ndim == 2:
            residual = any(part in name for part in _RESIDUAL)
            deviation = _DEVIATION / math.sqrt(2 * architecture.layers) if residual else _DEVIATION
            generator = torch.Generator().manual_seed(derive_seed(seed, name))
            torch.nn.init.normal_(weight, 0.0, deviation, generator)
    module.generation_config = GenerationConfig(**ends, eos_token_id=list(end_tokens))
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    save(module, tokenizer, beside)
    os.replace(beside, folder)
