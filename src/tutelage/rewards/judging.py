"""What a judge is asked of the answers to a prompt, and what these are worth by what it said: whoever the judge is.

A judge is asked `questions`, each once; what it said to each is read into a number, or a fault; and of these `scores`
makes one outcome for each answer. An answer without a word, or one that is nothing but a known master key, gets 0 and
loses without being shown.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

import regex

from tutelage.rewards.base import Fault, Outcome
from tutelage.rewards.verdict import compared, grade_of, graded, verdict_of
from tutelage.types import Prompt

MASTER_KEYS: Final = (
    "solution",
    "thought process",
    "let's solve this problem step by step",
    "解",
    "かいせつ",
    "respuesta",
)
"""Openings without content that judges were seen to reward (Zhao et al., 2507.08794, table 1)."""

Said = Mapping[str, Outcome]  # to each question

_ALONE: Final = Fault("comparing takes two answers to a prompt; sample more of them, or take mode = 'grade'")
_UNSEEN: Final = regex.compile(r"\p{Default_Ignorable_Code_Point}")
_KEYS: Final = regex.compile(rf"\b(?:{'|'.join(MASTER_KEYS)})\b")
_VERDICTS: Final = {"A": 1.0, "C": 0.5, "B": 0.0}


@dataclass(frozen=True, slots=True)
class Pairs:
    """Each answer is compared with the next one of its group, in both orders; it is worth the share that it wins.

    What is said to a question is how far its A is the better one: 1, 1/2 for a tie, 0, or a probability.

    Args:
        unanimous: an answer wins where both orders say so, and all else is a tie (Zheng et al., 2306.05685, section
            3.4); otherwise its share is the mean of both orders.
    """

    rubric: str | None  # what makes an answer good, in words
    unanimous: bool

    @property
    def choices(self) -> dict[str, float]:
        """The verdicts that leave no tie, and what each says."""
        return {"A": 1.0, "B": 0.0}

    def read(self, said: str) -> Outcome:
        """What a judge's words come to."""
        verdict = verdict_of(said)
        return Fault(f"the judge gave no verdict: {said[-200:]!r}") if verdict is None else _VERDICTS[verdict]

    def questions(self, prompt: Prompt, texts: Sequence[str]) -> list[str]:
        """What is to be asked, without repetitions."""
        rivals = [(texts[i], texts[j]) for i, j in _neighbours(len(texts))]
        shown = [pair for pair in rivals if not any(map(says_nothing, pair))]
        return list(dict.fromkeys(question for pair in shown for question in self._both(prompt, *pair)))

    def scores(self, prompt: Prompt, texts: Sequence[str], said: Said) -> list[Outcome]:
        """What each answer is worth."""
        if len(texts) < 2:
            return [_ALONE] * len(texts)
        rivals = _neighbours(len(texts))
        shares = [self._share(prompt, texts[i], texts[j], said) for i, j in rivals]
        return [_won(place, rivals, shares) for place in range(len(texts))]

    def _both(self, prompt: Prompt, first: str, second: str) -> tuple[str, str]:
        return compared(prompt, first, second, self.rubric), compared(prompt, second, first, self.rubric)

    def _share(self, prompt: Prompt, first: str, second: str, said: Said) -> Outcome:
        """What the first of a pair wins. The shares of both add up to 1 exactly, in whichever order they are given."""
        if says_nothing(first) or says_nothing(second):
            return 0.5 * (1.0 + says_nothing(second) - says_nothing(first))
        forward, backward = (said[question] for question in self._both(prompt, first, second))
        if isinstance(forward, Fault):
            return forward
        if isinstance(backward, Fault):
            return backward
        lead = (forward - backward) / 2
        return 0.5 if self.unanimous and abs(lead) < 0.5 else 0.5 + lead


@dataclass(frozen=True, slots=True)
class Grades:
    """Each answer gets a grade; it is worth how far that is up the scale."""

    rubric: str | None  # what makes an answer good, in words
    scale: tuple[int, int]  # lowest, highest

    def __post_init__(self) -> None:
        if self.scale[0] >= self.scale[1]:
            raise ValueError("scale: must be [lowest, highest]")

    @property
    def choices(self) -> dict[str, float]:
        """The grades, and what each is worth."""
        low, high = self.scale
        return {str(grade): (grade - low) / (high - low) for grade in range(low, high + 1)}

    def read(self, said: str) -> Outcome:
        """What a judge's words come to."""
        grade = grade_of(said, self.scale)
        if grade is None:
            return Fault(f"the judge gave no grade from {self.scale[0]} to {self.scale[1]}: {said[-200:]!r}")
        return self.choices[str(grade)]

    def questions(self, prompt: Prompt, texts: Sequence[str]) -> list[str]:
        """What is to be asked, without repetitions."""
        shown = [text for text in texts if not says_nothing(text)]
        return list(dict.fromkeys(graded(prompt, text, self.scale, self.rubric) for text in shown))

    def scores(self, prompt: Prompt, texts: Sequence[str], said: Said) -> list[Outcome]:
        """What each answer is worth."""
        return [0.0 if says_nothing(text) else said[graded(prompt, text, self.scale, self.rubric)] for text in texts]


def says_nothing(text: str) -> bool:
    """Is there no word in it, or nothing but master keys, whatever stands between and around them?"""
    words = _UNSEEN.sub("", unicodedata.normalize("NFKC", text)).casefold().replace("’", "'")
    return not regex.search(r"[^\W_]", _KEYS.sub("", words))


def _neighbours(count: int) -> list[tuple[int, int]]:
    """Each of a group with the next one, the last with the first."""
    return [(i, (i + 1) % count) for i in range(count if count > 2 else count - 1)]


def _won(place: int, rivals: Sequence[tuple[int, int]], shares: Sequence[Outcome]) -> Outcome:
    """The mean of what an answer won in the comparisons that came about; the first fault where none did."""
    own = [share for pair, share in zip(rivals, shares, strict=True) if place in pair]
    numbers = [
        share if pair[0] == place else 1.0 - share
        for pair, share in zip(rivals, shares, strict=True)
        if place in pair and not isinstance(share, Fault)
    ]
    return fmean(numbers) if numbers else own[0]
