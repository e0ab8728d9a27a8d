"""Must a stage run? Not where it is finished, intact, and nothing that its outcome depends on has changed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tutelage.errors import RunFolderError
from tutelage.pipelines.artefact import MANIFEST, Artefact, read_artefact
from tutelage.pipelines.keys import Key

BEGIN = "begin.json"


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done with a stage, and why."""

    do: Literal["stands", "goes on", "runs"]
    why: str
    artefact: Artefact | None = None  # of one that stands


def decide(folder: Path | None, key: Key, resumed: bool, forced: bool) -> Decision:
    """What to do with a stage, from what lies in its folder.

    Args:
        folder: None: there is none yet.
        resumed: a run goes on as it was declared: other code alone makes no stage run again.

    Raises:
        RunFolderError: a resumed stage is half done, and its config, its data or its inputs are others than when it
            began. Other code is said, not refused: a fault that stopped a run must be possible to mend. Or what a
            finished stage left is not what its manifest says.
    """
    if folder is None or not ((folder / MANIFEST).is_file() or (folder / BEGIN).is_file()):
        return Decision("runs", "it has not run")
    if forced:
        return Decision("runs", "forced")
    artefact, before = read_artefact(folder), begun(folder)
    changed = key.differences(artefact.key if artefact is not None else before or key)
    if artefact is not None:
        if changed and (not resumed or key.contradicts(artefact.key)):
            return Decision("runs", "; ".join(changed))
        artefact.check()
        return Decision("stands", "; ".join(changed) or "nothing that it depends on has changed", artefact)
    if resumed and before is not None and key.contradicts(before):
        raise RunFolderError(
            f"{folder}: the stage is half done, and since it began {'; '.join(changed)}. Put back what it began with, "
            f"or begin it again: `tutelage run RECIPE --out {folder.parent.parent}`, or in a new folder"
        )
    if changed and not resumed:
        return Decision("runs", "; ".join(changed))
    return Decision("goes on", "; ".join(["it was interrupted", *changed]))


def is_half_done(folder: Path) -> bool:
    """Did a stage begin here that did not end?"""
    return (folder / BEGIN).is_file() and not (folder / "result.json").is_file()


def begun(folder: Path) -> Key | None:
    """The key that a stage began with; None where it did not begin, or before keys were written."""
    path = folder / BEGIN
    if not path.is_file():
        return None
    table = json.loads(path.read_text(encoding="utf-8")).get("key")
    return Key(**table) if table else None
