"""Rows of a data set as they are read, each with its place for messages: file and line, or file and row."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

from tutelage.config import load_object, nearest
from tutelage.errors import DataError, MissingExtraError, UnreachableError
from tutelage.hub import hub_reachable

Placed = tuple[str, object]
"""Where a row stands, and the row: a mapping of fields if all is well."""


def read_jsonl(path: Path) -> Iterator[Placed]:
    """One JSON value a line, in UTF-8 with or without a byte order mark. Blank lines are passed over."""
    _require_file(path)
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            place = f"{path}:{number}"
            raw = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
            if raw.strip():
                yield place, _parse(raw, place)


def _parse(raw: bytes, place: str) -> object:
    try:
        return json.loads(
            raw.decode("utf-8"), parse_constant=_no_number, parse_float=_float, object_pairs_hook=_each_field_once
        )
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: byte {error.start + 1} is not UTF-8; save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        nul = "; it holds NUL bytes, so the file is damaged or not text" if b"\x00" in raw else ""
        raise DataError(f"{place}: not valid JSON: {error.msg} at column {error.colno}{nul}") from None
    except RecursionError:
        raise DataError(f"{place}: JSON nested too deeply to be a row") from None
    except ValueError as error:  # Python's own bound on the digits of a number, and ours
        raise DataError(f"{place}: {str(error).split(';')[0]}; write it as text, or repair it") from None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON (null is what is missing)")


def _float(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _no_number(digits[:20])


def _each_field_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"field '{next(name for name in names if names.count(name) > 1)}' stands there twice")
    return row


def read_parquet(path: Path) -> Iterator[Placed]:
    """The rows of one Parquet file, counted from 1."""
    _require_file(path)
    _require("pyarrow", f"reading {path}")
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", row
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file: {error}") from None


def read_text(path: Path) -> Iterator[Placed]:
    """One row with the whole text of a file, in UTF-8; of a folder, one for each of its `.txt` files, by name."""
    files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
    for file in files:
        _require_file(file)
        try:
            yield str(file), {"id": str(file), "text": file.read_bytes().decode("utf-8-sig")}
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: byte {error.start + 1} is not UTF-8; save the file as UTF-8") from None


def read_hub(name: str, subset: str | None, split: str, revision: str | None) -> Iterator[Placed]:
    """The rows of a data set of the Hugging Face hub, or of its local cache. Code in it is never run."""
    _require("datasets", f"the data set '{name}'")
    import datasets

    offline = not hub_reachable()
    try:
        with _only_the_cache() if offline else nullcontext():
            rows = datasets.load_dataset(name, subset, split=split, revision=revision)
    except Exception as error:  # the package raises whatever its many back ends do
        if offline:
            raise UnreachableError(
                f"{name}: the hub cannot be reached and the data set is not in its cache; fetch it once where there "
                "is a network, or save its rows as JSONL and use type = 'jsonl'"
            ) from error
        raise DataError(f"{name} (subset {subset}, split {split}): cannot be loaded: {error}") from error
    for number, row in enumerate(cast("datasets.Dataset", rows), start=1):
        yield f"{name}[{split}]: row {number}", row


@contextmanager
def _only_the_cache() -> Iterator[None]:
    """Without this the package asks an unreachable hub again and again, for half a minute."""
    import datasets
    import huggingface_hub

    before = datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE = before


def read_python(function: str) -> Iterator[Placed]:
    """What a user's function `module:name`, called without arguments, returns or yields."""
    make = load_object(function, "function")
    if not callable(make):
        raise DataError(f"{function}: not a function (it is of type {type(make).__name__})")
    number = 0
    try:
        for number, row in enumerate(cast(Any, make()), start=1):
            yield f"{function}: item {number}", row
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{function}: raised {type(error).__name__} after item {number}: {error}") from error


def _require_file(path: Path) -> None:
    if path.is_file():
        return
    folder = path.parent
    if not folder.is_dir():
        raise DataError(f"{path}: no such file, nor its folder (paths begin at the current folder, {Path.cwd()})")
    names = [entry.name for entry in folder.iterdir() if entry.is_file()]
    raise DataError(f"{path}: no such file in {folder.resolve()}; {nearest(path.name, names[:20])}")


def _require(package: str, why: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(package, "data", why)
