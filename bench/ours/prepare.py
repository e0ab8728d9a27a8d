"""Finds or makes a model and prints its folder: `python -m bench.ours.prepare NAME FOLDER`.

`llama-3m` and `tiny` are random Llamas with tied embeddings and a vocabulary of made-up words, so that nothing needs
to be fetched or trained for them; the same name makes the same weights. Any other name is one that recipes know.
"""

from __future__ import annotations

import sys
from itertools import islice, product
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from tutelage.models import fetch, resolve
from tutelage.models.loading import has_weights, save

_SYLLABLES = [a + b for a in "bdfgklmn" for b in "aeiouy"]
MADE: dict[str, dict[str, Any]] = {
    "llama-3m": {"vocab_size": 4096, "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 6,
                 "num_attention_heads": 6, "num_key_value_heads": 2},
    "tiny": {"vocab_size": 256, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2},
}  # fmt: skip


def make(name: str, folder: Path) -> Path:
    """Writes the model and its tokenizer, unless they are there."""
    if not has_weights(folder):
        size = MADE[name]
        torch.manual_seed(0)
        ends = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": 1}
        config = LlamaConfig(**size, **ends, tie_word_embeddings=True, max_position_embeddings=2048)
        save(AutoModelForCausalLM.from_config(config), tokenizer_of(size["vocab_size"]), folder)
    return folder


def tokenizer_of(vocabulary: int) -> PreTrainedTokenizerFast:
    """One token for each of so many made-up words."""
    words = ("".join(parts) for parts in product(_SYLLABLES, repeat=3))
    tokens = ["<end>", "<pad>", "<unknown>", *islice(words, vocabulary - 3)]
    inner = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unknown>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<end>", pad_token="<pad>", unk_token="<unknown>", padding_side="left"
    )


def main() -> None:
    name, folder = sys.argv[1:]
    if name in MADE:
        print(make(name, Path(folder) / name))
    else:
        print(resolve(name).folder or fetch(name))


if __name__ == "__main__":
    main()
