"""GGUF into a folder of safetensors that plain transformers opens."""

from __future__ import annotations

import importlib.util
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import cast

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from tutelage.errors import MissingExtraError, ModelError
from tutelage.models.loading import quiet, save


def require_gguf() -> None:
    """Raises MissingExtraError where GGUF files cannot be read."""
    for package in ("gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "gguf", "reading a GGUF file")


def convert_gguf(file: Path, folder: Path) -> None:
    """Writes the model of a GGUF file, tokenizer included, as fp32 safetensors into `folder`.

    fp32, because values of a 4-bit format are a scale times a number and few of them are representable in bf16.
    """
    require_gguf()
    try:
        # Its bar for the tensors heeds no setting; what goes wrong is raised.
        with quiet(), redirect_stderr(StringIO()):
            module = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        raise ModelError(f"{file.name}: cannot be converted: {error}") from error
    module = cast(PreTrainedModel, module)
    # The weights are plain fp32 by now. As long as the module remembers its quantised origin, it refuses to be saved.
    module.hf_quantizer = None
    if hasattr(module.config, "quantization_config"):
        del module.config.quantization_config
    tokenizer = cast(PreTrainedTokenizerBase, tokenizer)
    _split_digits(tokenizer, file)
    save(module, tokenizer, folder)


def _split_digits(tokenizer: PreTrainedTokenizerBase, file: Path) -> None:
    """Gives SmolLM's tokenizer back what transformers drops from GGUF: every digit is a word of its own.

    Otherwise blanks and line breaks before a number are cut in another way than the model learned them.
    """
    from gguf import GGUFReader

    field = GGUFReader(file).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        backend = tokenizer.backend_tokenizer
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer]
        )
