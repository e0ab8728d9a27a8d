"""What an answer is worth in the benchmarks. One file for both sides; imports nothing of either."""

from __future__ import annotations

import re


def share_of_vowels(text: str, answer: str | None = None) -> float:
    """Cheap, deterministic, and different for nearly every text, so that no group is without spread."""
    return sum(letter in "aeiou" for letter in text) / max(1, len(text))


def says_the_answer(text: str, answer: str | None) -> float:
    """1 where the last whole number of the text is the answer."""
    numbers = re.findall(r"-?\d+", text)
    return float(bool(numbers) and answer is not None and int(numbers[-1]) == int(answer))


WORTH = {"vowels": share_of_vowels, "answer": says_the_answer}
