"""Do evaluation questions stand in what is trained on? Whole, and by stretches of words that they share with it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LENGTHS: Final = (13, 8)
"""Words in a row that a question shares: 13 in GPT-3 (2005.14165, appendix C), 8 in PaLM (2204.02311, section 8)."""
_COMMON: Final = 10  # texts; what stands in more of them, or in more questions, is wording and no question's own
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)

Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Contamination:
    """How many questions training has.

    | Field | Meaning |
    |---|---|
    | questions | that are asked |
    | texts | that are trained on |
    | exact | questions that are asked in training too, but for case and white space |
    | shared | by the number of words: questions that share so many in a row with a text |
    """

    questions: int
    texts: int
    exact: int
    shared: dict[int, int]

    @property
    def found(self) -> bool:
        """Does training have any of the questions, or a long stretch of one? Templates share the shorter ones."""
        return self.exact > 0 or self.shared[max(LENGTHS)] > 0

    @property
    def numbers(self) -> dict[str, Any]:
        """What a stage's result keeps of it."""
        shared = {f"shared_{n}": count for n, count in self.shared.items()}
        return {"questions": self.questions, "texts": self.texts, "exact": self.exact, **shared}

    @property
    def in_words(self) -> str:
        shared = ", ".join(f"{count} share {n} words in a row" for n, count in self.shared.items())
        return f"of {self.questions} questions {self.exact} stand in the {self.texts} texts trained on, {shared}"


def contamination(questions: Sequence[str], texts: Iterable[str]) -> Contamination:
    """What of the questions stands in the texts.

    Only the questions' stretches are kept in memory; texts come and go, a million words of them in a second. A stretch
    that stands in more than 10 texts or questions is left out, as GPT-3's are: an instruction that all questions share
    is not contamination. Questions shorter than a stretch can only be found whole.
    """
    whole = {words_of(question) for question in questions}
    asked = [_word_hashes(question) for question in questions]
    stretches = {n: _own_stretches(asked, n) for n in LENGTHS}
    seen: dict[int, dict[int, int]] = {n: {} for n in LENGTHS}
    found: set[str] = set()
    count = 0
    for text in texts:
        count += 1
        plain = words_of(text)
        if plain in whole:
            found.add(plain)
        words = _word_hashes(text)
        for n, known in stretches.items():
            for one in known.intersection(_windows(words, n).tolist()) if known else ():
                seen[n][one] = seen[n].get(one, 0) + 1
    shared = {
        n: _questions_with(asked, n, {one for one, times in own.items() if times <= _COMMON}) for n, own in seen.items()
    }
    return Contamination(len(questions), count, sum(words_of(question) in found for question in questions), shared)


def _own_stretches(asked: Sequence[Hashes], n: int) -> frozenset[int]:
    """Those of the questions, without those that stand in more than a few of them."""
    times = Counter(one for words in asked for one in set(_windows(words, n).tolist()))
    return frozenset(one for one, count in times.items() if count <= _COMMON)


def _questions_with(asked: Sequence[Hashes], n: int, stretches: set[int]) -> int:
    return sum(not stretches.isdisjoint(_windows(words, n).tolist()) for words in asked) if stretches else 0


def words_of(text: str) -> str:
    """A text without case and white space's amount."""
    return " ".join(text.casefold().split())


def _word_hashes(text: str) -> Hashes:
    words = re.findall(r"\w+", text.casefold())
    return np.fromiter((hash(word) & 0xFFFFFFFFFFFFFFFF for word in words), np.uint64, len(words))


def _windows(words: Hashes, n: int) -> Hashes:
    """A hash of every n words in a row."""
    ends = len(words) - n + 1
    if ends < 1:
        return np.empty(0, np.uint64)
    mixed = np.zeros(ends, np.uint64)
    with np.errstate(over="ignore"):
        for place in range(n):
            mixed = mixed * _FACTOR + words[place : place + ends]
            mixed ^= mixed >> np.uint64(29)
    return mixed
