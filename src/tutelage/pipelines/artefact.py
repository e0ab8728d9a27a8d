"""What a finished stage left: a folder with a manifest of digests, written last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tutelage.config import BASE, ModelStage, Recipe, Stage, references
from tutelage.errors import RunFolderError
from tutelage.pipelines.keys import Key
from tutelage.stages import write_json
from tutelage.training.checkpoint import file_digest

MANIFEST = "manifest.json"
CARD = "README.md"  # a model's card tells what was learned of the model later, so it is no part of the artefact


@dataclass(frozen=True, slots=True)
class Artefact:
    """The manifest of a finished stage."""

    folder: Path
    key: Key
    files: dict[str, str]  # SHA-256 by path within the folder

    @property
    def digest(self) -> str:
        """Of what stages after it can read: the same content, the same digest. A result is for people."""
        lines = [f"{path} {digest}" for path, digest in sorted(self.files.items()) if path != "result.json"]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def check(self) -> None:
        """Raises RunFolderError where a file is missing or is not what the manifest says."""
        for path, digest in self.files.items():
            where = self.folder / path
            if not where.is_file() or file_digest(where) != digest:
                fault = "does not have the SHA-256 of its manifest" if where.is_file() else "is missing"
                name = self.folder.name.partition("-")[2]
                raise RunFolderError(
                    f"{where}: {fault}; put it back, or run the recipe again on this folder with --force {name}"
                )


def read_artefact(folder: Path) -> Artefact | None:
    """What lies in a stage's folder; None where the stage is not finished."""
    path = folder / MANIFEST
    if not path.is_file() or not (folder / "result.json").is_file():
        return None
    try:
        table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Artefact(folder, Key(**table["key"]), table["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{path}: cannot be read ({error}); run the recipe again on this folder") from None


def seal(folder: Path, stage: str, kind: str, key: Key) -> Artefact:
    """Hashes what a stage left and writes the manifest: from now on the stage is finished."""
    files = {str(path.relative_to(folder)): file_digest(path) for path in _files(folder)}
    artefact = Artefact(folder, key, files)
    manifest = {"stage": stage, "leaves": kind, "digest": artefact.digest, "files": files, "key": key.to_json()}
    write_json(folder / MANIFEST, manifest)
    return artefact


def given_models(stage: Stage, recipe: Recipe) -> list[str]:
    """The names of the models that a stage reads and that no stage made: "base", or of the recipe's `models`."""
    named = {reference.name for reference in references(stage, recipe.environments)}
    if isinstance(stage, ModelStage) and recipe.begins(stage) is None:
        named.add(BASE)
    known = [*([] if recipe.model is None else [BASE]), *recipe.models]
    return [name for name in known if name in named]


def digest_of_model(folder: Path) -> str:
    """Of a model that no stage made: its weights, its tokenizer and its config. It does not change while we run."""
    return _digest(folder, _is_models)


def _is_models(path: Path) -> bool:
    return path.suffix in (".safetensors", ".json")


def given_digests(stage: Stage, recipe: Recipe, folders: Mapping[str, Path]) -> dict[str, str]:
    """The digests of the models that a stage reads and that no stage made, and of their tokenizers alone.

    Args:
        folders: where they lie, by name; of one that is not on this machine the digest is empty.
    """
    digests: dict[str, str] = {}
    for name in given_models(stage, recipe):
        digests[name] = digest_of_model(folders[name]) if name in folders else ""
        if name in folders:
            digests[f"{name}, its tokenizer"] = _digest(folders[name], _is_tokenizers)
    return digests


def _is_tokenizers(path: Path) -> bool:
    return path.suffix == ".json" and ("token" in path.name or path.name in ("vocab.json", "added_tokens.json"))


@cache
def _digest(folder: Path, wanted: Callable[[Path], bool]) -> str:
    files = sorted(path for path in folder.iterdir() if path.is_file() and wanted(path))
    return hashlib.sha256("\n".join(f"{path.name} {file_digest(path)}" for path in files).encode()).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    data = ("result.json", "judged.jsonl", "conversations.jsonl", "prompts.jsonl")
    yield from (path for path in (folder / name for name in data) if path.is_file())
    yield from (path for path in sorted((folder / "model").rglob("*")) if path.is_file() and path.name != CARD)
