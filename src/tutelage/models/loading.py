"""Opening and writing model folders: offline, safetensors only, never anybody's code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from tutelage.errors import ModelError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_GENERATES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_SCORES = "ForSequenceClassification"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model's config tells without its weights."""

    family: str  # transformers' model type: llama, qwen2, gemma3_text, ...
    parameters: int  # shared weights counted once
    context: int  # longest sequence, in tokens
    layers: int | None  # None: its config does not say


def describe(folder: Path) -> ModelFacts:
    """Reads a model's facts from its config alone. Raises ModelError with the remedy."""
    config = _config(folder)
    with quiet(), torch.device("meta"):
        module = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    parameters = sum(weight.numel() for weight in module.parameters())
    layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    return ModelFacts(config.model_type, parameters, context_length(config), layers)


def context_length(config: PreTrainedConfig) -> int:
    """The longest sequence the model was made for. Families without a limit (state spaces) get 2^31 - 1."""
    return getattr(config.get_text_config(), "max_position_embeddings", None) or 2**31 - 1


def has_weights(folder: Path) -> bool:
    """Whether all safetensors files of a model are there: one, or every shard that the index names."""
    if (folder / WEIGHTS).is_file():
        return True
    names = _shards(folder)
    return names is not None and all(_is_own(name) and (folder / name).is_file() for name in names)


def _shards(folder: Path) -> list[str] | None:
    """The files that the index names; None where there is no readable one."""
    try:
        names = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return [str(name) for name in names]


def _is_own(shard: str) -> bool:
    """Is it a safetensors file of the folder itself? transformers would open any other, too, and unpickle it."""
    return Path(shard).name == shard and shard.endswith(".safetensors")


def load_module(folder: Path, dtype: torch.dtype, attention: str | None = None) -> PreTrainedModel:
    """Opens a causal language model.

    Args:
        folder: config.json with safetensors beside it.
        dtype: the type of the weights in memory.
        attention: the name of an attention implementation that transformers knows; None: the architecture's own.

    Raises:
        ModelError: the folder is not a causal language model, needs code of its own, or its weights are pickles,
            quantised, damaged or incomplete.
    """
    module, missing = _open(AutoModelForCausalLM, folder, _config(folder), dtype, attention)
    _refuse_missing(folder, missing)
    return module


def load_scorer(folder: Path, dtype: torch.dtype, attention: str | None = None) -> PreTrainedModel:
    """Opens a model with a head that makes one number, `score`, in place of the vocabulary's.

    Args:
        folder: one that was saved so, or a causal language model, whose new head begins at 0.

    Raises:
        ModelError: as `load_module`; or it has another kind of head.
    """
    config = _config(folder, *_GENERATES, _SCORES)
    saved = any(name.endswith(_SCORES) for name in config.architectures or [])
    if saved and config.num_labels != 1:
        raise ModelError(f"{folder}: makes {config.num_labels} numbers of a text; a reward model makes one")
    if type(config) not in AutoModelForSequenceClassification._model_mapping:
        raise ModelError(f"{folder}: transformers has no head for scores for {config.model_type}")
    config.num_labels = 1
    module, missing = _open(AutoModelForSequenceClassification, folder, config, dtype, attention)
    head = getattr(module, "score", None)
    if not isinstance(head, nn.Linear) or head.bias is not None:
        raise ModelError(f"{folder}: the score of {type(module).__name__} is not one plain product; not supported")
    if not saved:
        nn.init.zeros_(head.weight)
        missing.remove("score.weight")
    _refuse_missing(folder, missing)
    return module


def _open(
    kind: type[AutoModelForCausalLM] | type[AutoModelForSequenceClassification],
    folder: Path,
    config: PreTrainedConfig,
    dtype: torch.dtype,
    attention: str | None,
) -> tuple[PreTrainedModel, list[str]]:
    """The module, and the names of those of its weights that the folder has not."""
    if not has_weights(folder):
        raise ModelError(f"{folder}: {_why_no_weights(folder)}")
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(f"{folder}: its weights are quantised and cannot be trained; use the full-precision model")
    try:
        with quiet():
            module, report = kind.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                attn_implementation=attention,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # damaged files surface as whatever their parser raises
        raise ModelError(f"{folder}: the weights cannot be loaded: {error}") from error
    return cast(PreTrainedModel, module), sorted(cast("set[str]", report["missing_keys"]))


def _refuse_missing(folder: Path, missing: Sequence[str]) -> None:
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} weights are missing (first: {missing[0]}) and would be random; "
            "the files are incomplete or belong to another architecture"
        )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Opens the tokenizer of a model folder. Raises ModelError with the remedy."""
    _require_folder(folder)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the many tokenizer classes raise whatever they like
        raise ModelError(
            f"{folder}: the tokenizer cannot be loaded: {error}; a model folder holds tokenizer.json and "
            "tokenizer_config.json"
        ) from error
    return cast(PreTrainedTokenizerBase, tokenizer)


def save(
    module: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Writes a folder that plain `transformers.AutoModelForCausalLM.from_pretrained` opens.

    `weights` take the place of the module's own by name: the fp32 masters of a policy that computes in bf16. The config
    then says their type.
    """
    given = weights or {}
    own = module.state_dict()
    tied = own.keys() - dict(module.named_parameters()).keys() - dict(module.named_buffers()).keys()
    state = {name: given.get(name, tensor).detach() for name, tensor in own.items() if name not in tied}
    with quiet():
        module.save_pretrained(folder, state_dict=state)
        tokenizer.save_pretrained(folder)
    if given:
        _write_dtype(folder / "config.json", next(iter(given.values())).dtype)


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own progress bars and reports: what matters is raised."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _config(folder: Path, *kinds: str) -> PreTrainedConfig:
    """The config of a causal language model, refused where transformers itself cannot build it.

    Args:
        kinds: how the names of the classes end that may have saved it; by default those that generate.
    """
    _require_folder(folder)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # unknown types, broken JSON and failed validation raise different things
        raise ModelError(
            f"{folder}: transformers knows no architecture for its config.json, or needs code that comes with the "
            f"model, which is never run: {str(error).splitlines()[0]}"
        ) from error
    names = cast("list[str]", getattr(config, "architectures", None) or [])
    fits = not names or any(name.endswith(kinds or _GENERATES) for name in names)
    if type(config) not in AutoModelForCausalLM._model_mapping or not fits:
        raise ModelError(f"{folder}: {' '.join(names) or config.model_type} is not a causal language model")
    return config


def _require_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: not a model folder; it must hold config.json, *.safetensors and tokenizer.json")


def _why_no_weights(folder: Path) -> str:
    foreign = [name for name in _shards(folder) or [] if not _is_own(name)]
    if foreign:
        return (
            f"{INDEX} names {foreign[0]!r}, which is no safetensors file of this folder, and other files are not opened"
        )
    if (folder / INDEX).is_file():
        return f"a shard that {INDEX} names is missing; copy or fetch the model again"
    pickles = [path.name for pattern in _PICKLES for path in folder.glob(pattern)]
    if pickles:
        return (
            f"its weights are pickled ({pickles[0]}), and opening a pickle runs code; convert them where you trust "
            "them, with save_pretrained(folder) of transformers, which writes safetensors"
        )
    return f"no {WEIGHTS} in it"


def _write_dtype(path: Path, dtype: torch.dtype) -> None:
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = str(dtype).removeprefix("torch.")
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
