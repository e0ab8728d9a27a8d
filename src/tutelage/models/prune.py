"""Fewer layers of a model, its other weights as they are."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from tutelage.errors import ModelError
from tutelage.models.loading import load_module, load_tokenizer, save


def kept_layers(layers: int, kept: int) -> list[int]:
    """Which of the layers stay: at even distances, the first and the last among them."""
    return [round(i * (layers - 1) / (kept - 1)) for i in range(kept)]


def prune(folder: Path, kept: int, out: Path) -> None:
    """Writes the model with so many of its layers, in fp32.

    Raises:
        ModelError: it has no more layers than that, or no list of them.
    """
    module = load_module(folder, torch.float32)
    layers = getattr(module.base_model, "layers", None)
    if not isinstance(layers, nn.ModuleList) or len(layers) <= kept:
        had = f"{len(layers)} layers" if isinstance(layers, nn.ModuleList) else "no list of layers"
        raise ModelError(f"{folder}: has {had}, so {kept} of them cannot be kept; set `layers` lower")
    places = kept_layers(len(layers), kept)
    module.base_model.layers = nn.ModuleList(layers[place] for place in places)
    for number, layer in enumerate(module.base_model.layers):
        for part in layer.modules():
            if hasattr(part, "layer_idx"):
                part.layer_idx = number
    config = module.config
    config.num_hidden_layers = kept
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[place] for place in places]
    save(module, load_tokenizer(folder), out)
