"""The data set `instructions`: prompts whose instructions can be checked, in IFEval's fields. Ours; nothing is fetched.

IFEval's own 541 prompts are on the hub (`{ type = "hub", name = "google/IFEval" }`); these are for where that cannot be
reached, and for quick looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

PARTS = {"prompts": "prompts with one to three instructions each, of 20 kinds"}


def make(archives: Sequence[Path], folder: Path) -> None:
    """Copies the part that ships with the package into a new folder."""
    folder.mkdir()
    text = (files("tutelage.data") / "instructions.jsonl").read_text(encoding="utf-8")
    (folder / "prompts.jsonl").write_text(text, encoding="utf-8")
