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
from tutelage.pipelines.versions import versions
from tutelage.stages import is_model_folder, write_json
from tutelage.training.checkpoint import file_digest

MANIFEST = "manifest.json"
_TEXTS = (".json", ".jinja", ".model", ".txt")  # a model's files beside its weights: config, tokenizer, chat template
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
                raise RunFolderError(f"{where}: {fault}; {_remedy(self.folder)}")


def read_artefact(folder: Path) -> Artefact | None:
    """What lies in a stage's folder; None where the stage is not finished."""
    path = folder / MANIFEST
    if not path.is_file() or not (folder / "result.json").is_file():
        return None
    try:
        table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Artefact(folder, Key(**table["key"]), table["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{path}: cannot be read ({error}); {_remedy(folder)}") from None


def seal(folder: Path, stage: str, kind: str, key: Key) -> Artefact:
    """Hashes what a stage left and writes the manifest: from now on the stage is finished."""
    files = {str(path.relative_to(folder)): file_digest(path) for path in _files(folder)}
    artefact = Artefact(folder, key, files)
    made = {"stage": stage, "leaves": kind, "digest": artefact.digest, "versions": versions()}
    write_json(folder / MANIFEST, {**made, "files": files, "key": key.to_json()})
    return artefact


def given_models(stage: Stage, recipe: Recipe) -> list[str]:
    """The models that a stage reads and that no stage made: "base", names of the recipe's `models`, and folders."""
    named = {reference.name for reference in references(stage, recipe.environments)}
    if isinstance(stage, ModelStage) and recipe.begins(stage) is None:
        named.add(BASE)
    known = [*([] if recipe.model is None else [BASE]), *recipe.models]
    made = {other.name for other in recipe.stage}
    folders = sorted(name for name in named - {*known} - made if is_model_folder(name))
    return [*(name for name in known if name in named), *folders]


def digest_of_model(folder: Path) -> str:
    """Of a model that no stage made: its weights, its tokenizer and its config. It does not change while we run."""
    return _digest(folder, _is_models)


def _is_models(path: Path) -> bool:
    return path.suffix == ".safetensors" or path.suffix in _TEXTS


def _remedy(folder: Path) -> str:
    name = folder.name.partition("-")[2]
    return f"put it back, or run the recipe again on this folder with --force {name}"


def given_digests(stage: Stage, recipe: Recipe, folders: Mapping[str, Path]) -> dict[str, str]:
    """The digests of the models that a stage reads and that no stage made, and of their tokenizers alone.

    Args:
        folders: where they lie, by name; of one that is not on this machine the digest is empty.
    """
    digests: dict[str, str] = {}
    for name in given_models(stage, recipe):
        folder = folders.get(name, Path(name) if is_model_folder(name) else None)
        digests[name] = "" if folder is None else digest_of_model(folder)
        if folder is not None:
            digests[f"{name}, its tokenizer"] = _digest(folder, _is_tokenizers)
    return digests


def _is_tokenizers(path: Path) -> bool:
    return path.suffix in _TEXTS and (path.suffix != ".json" or "token" in path.name or path.name == "vocab.json")


@cache
def _digest(folder: Path, wanted: Callable[[Path], bool]) -> str:
    files = sorted(path for path in folder.iterdir() if path.is_file() and wanted(path))
    return hashlib.sha256("\n".join(f"{path.name} {file_digest(path)}" for path in files).encode()).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    data = ("result.json", "judged.jsonl", "conversations.jsonl", "prompts.jsonl")
    yield from (path for path in (folder / name for name in data) if path.is_file())
    yield from (path for path in sorted((folder / "model").rglob("*")) if path.is_file() and path.name != CARD)
