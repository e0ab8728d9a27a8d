"""Must a stage run? Not where it is finished and nothing that its outcome depends on has changed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tutelage.errors import RunFolderError
from tutelage.pipelines.artefact import Artefact, read_artefact
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
        resumed: the recipe is the one that was declared: finished stages stand, whatever the code is now.

    Raises:
        RunFolderError: a resumed stage is half done, and its config, its data or its inputs are others than when it
            began. Other code is said, not refused: a fault that stopped a run must be possible to mend.
    """
    if folder is None:
        return Decision("runs", "it has not run")
    artefact, before = read_artefact(folder), begun(folder)
    if artefact is None and not (folder / BEGIN).is_file():
        return Decision("runs", "it has not run")
    changed = key.differences(artefact.key if artefact is not None else before or key)
    if artefact is not None:
        if forced:
            return Decision("runs", "forced")
        if resumed or not changed:
            return Decision("stands", "nothing that it depends on has changed", artefact)
        return Decision("runs", "; ".join(changed))
    if resumed and before is not None and key.contradicts(before):
        raise RunFolderError(
            f"{folder}: the stage is half done, and since it began {'; '.join(changed)}. Put back what it began with, "
            f"or begin it again: `tutelage run RECIPE --out {folder.parent.parent}`, or in a new folder"
        )
    if forced or (changed and not resumed):
        return Decision("runs", "forced" if forced else "; ".join(changed))
    return Decision("goes on", "; ".join(["it was interrupted", *changed]))


def begun(folder: Path) -> Key | None:
    """The key that a stage began with; None where it did not begin, or before keys were written."""
    path = folder / BEGIN
    if not path.is_file():
        return None
    table = json.loads(path.read_text(encoding="utf-8")).get("key")
    return Key(**table) if table else None
