"""Where thinking ends and the answer begins, and which of them is judged."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

Reads = Literal["whole", "answer"]
"""What is judged: all that was written, or what follows the end of thinking. DeepSeek-R1 (2501.12948) judges whether
an answer is harmless by the whole of it, and whether it helps by what the user is told in the end."""


def thinking_of(text: str, tag: str) -> str:
    """What stands before the last `</tag>`; everything where there is none: the thinking never ended."""
    before, ended, _ = text.rpartition(f"</{tag}>")
    return before if ended else text


def answer_after(text: str, tag: str) -> str:
    """What follows the last `</tag>`; nothing where there is none: no answer was given."""
    _, ended, after = text.rpartition(f"</{tag}>")
    return after if ended else ""


def judged_of(text: str, reads: Reads, tag: str) -> str:
    """What of a text is judged, without the space around it."""
    return (answer_after(text, tag) if reads == "answer" else text).strip()


def refuse_idle_tag(reads: Reads, given: Collection[str]) -> None:
    """Raises ValueError for the name of a tag that nobody looks for."""
    if reads == "whole" and "think" in given:
        raise ValueError("think: is for reads = 'answer'")
