"""Checkpoints that a kill cannot harm: written beside, hashed, renamed; the manifest comes last.

A folder counts only with its manifest, and only if every file has the hash that stands there. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tutelage.errors import RunFolderError
from tutelage.training.state import State

_MASTERS, _OPTIMIZER, _REFERENCE = "masters.safetensors", "optimizer.safetensors", "reference.safetensors"
_STATE, _MEMORY, _MANIFEST = "state.json", "memory.json", "manifest.json"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a checkpoint holds. The tensors are the state's own, no copies: only an optimizer step changes them."""

    step: int
    version: int
    offsets: Mapping[str, int]
    masters: Mapping[str, torch.Tensor]
    moments: Mapping[str, torch.Tensor]
    reference: Mapping[str, torch.Tensor]  # empty where it stays what it was
    dials: Mapping[str, float]
    memory: str  # empty where nothing is kept

    @classmethod
    def of(cls, state: State, offsets: Mapping[str, int]) -> Self:
        masters = {name: master.detach() for name, master in state.weights.items()}
        return cls(
            state.step,
            state.policy.version,
            dict(offsets),
            masters,
            _optimizer_tensors(state),
            state.moving_weights(),
            dict(state.dials),
            "" if state.memory.empty else state.memory.to_json(),
        )

    @property
    def tensors(self) -> dict[str, Mapping[str, torch.Tensor]]:
        """By file."""
        reference = {_REFERENCE: self.reference} if self.reference else {}
        return {_MASTERS: self.masters, _OPTIMIZER: self.moments, **reference}


def write_checkpoint(snapshot: Snapshot, folder: Path, keep: int, copied: Callable[[], None] = lambda: None) -> Path:
    """Writes `folder/step-NNNNNN` and removes all but the newest `keep`.

    Args:
        copied: called as soon as the tensors are with the operating system and may change. What is left to do needs the
            files alone; they are hashed from its cache, which takes as long as from the tensors and holds up nobody.

    Raises:
        RunFolderError: the disk is full or read-only. What was saved before is untouched.
    """
    final = folder / f"step-{snapshot.step:06d}"
    beside = folder / f".{final.name}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        for name, tensors in snapshot.tensors.items():
            save_file(dict(tensors), beside / name)
        copied()
        about = {"step": snapshot.step, "version": snapshot.version, "offsets": snapshot.offsets}
        texts = {_STATE: json.dumps({**about, "dials": snapshot.dials})}
        if snapshot.memory:
            texts[_MEMORY] = snapshot.memory
        for name, text in texts.items():
            (beside / name).write_text(text)
        files = {name: file_digest(beside / name) for name in (*snapshot.tensors, *texts)}
        for name in files:
            _sync(beside / name)
        (beside / _MANIFEST).write_text(json.dumps({"sha256": files}, indent=1))
        _sync(beside / _MANIFEST)
        _remove(final)  # left from before a resume that fell back to an older one
        beside.rename(final)
        _sync(folder)
    except (OSError, SafetensorError) as error:  # a full disk is either, depending on which file it hits
        shutil.rmtree(beside, ignore_errors=True)
        raise RunFolderError(
            f"{final}: the checkpoint could not be written: {error}; the earlier ones are intact. "
            "Make room, then `tutelage resume`"
        ) from error
    for outdated in _steps(folder)[:-keep]:
        _remove(outdated)
    return final


def load_checkpoint(state: State, folder: Path, at_most: int | None = None) -> tuple[dict[str, int], list[str]]:
    """Restores the newest intact checkpoint into `state`, if there is one.

    Args:
        at_most: of this step, or of one before it.

    Returns:
        The offsets of the logs when it was written (empty: no checkpoint), and a line for each one that was refused.
    """
    refused: list[str] = []
    for path in reversed(_steps(folder)):
        if at_most is not None and _number(path) > at_most:
            continue
        fault = _fault(path)
        if fault:
            refused.append(f"{path.name} refused: {fault}")
            continue
        about = json.loads((path / _STATE).read_text())
        _restore(state, load_file(path / _MASTERS), load_file(path / _OPTIMIZER))
        if state.reference is not None and (moving := state.moving_weights()):
            _copy(load_file(path / _REFERENCE), moving)
            state.reference.publish()
        state.step, state.policy.version, state.dials = about["step"], about["version"], about["dials"]
        state.memory.clear()
        if (path / _MEMORY).exists():
            state.memory.restore((path / _MEMORY).read_text())
        return about["offsets"], refused
    return {}, refused


def discard_after(folder: Path, step: int) -> None:
    """Removes the checkpoints of later steps, which a run that went back to this one must not go on from."""
    for path in _steps(folder):
        if _number(path) > step:
            _remove(path)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _optimizer_tensors(state: State) -> dict[str, torch.Tensor]:
    return {
        f"{key}/{name}": value
        for name, master in state.weights.items()
        for key, value in state.optimizer.state.get(master, {}).items()
    }


def _restore(state: State, masters: Mapping[str, torch.Tensor], moments: Mapping[str, torch.Tensor]) -> None:
    _copy(masters, state.weights)
    state.publish()
    state.optimizer.state.clear()
    kept: dict[str, dict[str, torch.Tensor]] = {}  # none of a weight that no gradient step has moved
    for full, moment in moments.items():
        key, _, name = full.partition("/")
        kept.setdefault(name, {})[key] = moment
    for name, master in state.weights.items():
        if name in kept:
            state.optimizer.state[master] = {
                key: value if key == "step" else value.to(master.device) for key, value in kept[name].items()
            }


@torch.no_grad()
def _copy(saved: Mapping[str, torch.Tensor], into: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in into.items():
        tensor.copy_(saved[name])


def _steps(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.is_dir()) if folder.is_dir() else []


def _number(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _fault(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        manifest: dict[str, str] = json.loads((path / _MANIFEST).read_text())["sha256"]
    except (OSError, ValueError, KeyError):
        return "it has no readable manifest"
    for name in sorted({*manifest, _MASTERS, _OPTIMIZER, _STATE}):
        if not (path / name).is_file():
            return f"{name} is missing"
        if file_digest(path / name) != manifest.get(name):
            return f"{name} does not have the SHA-256 of its manifest"
    return None


def _remove(path: Path) -> None:
    """Out of sight first, then deleted: a kill in between leaves no half checkpoint under a valid name."""
    if path.exists():
        gone = path.with_name(f".{path.name}.removed")
        shutil.rmtree(gone, ignore_errors=True)
        path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
