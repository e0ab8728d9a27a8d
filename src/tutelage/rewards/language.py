"""The reward `language`: how much of the thinking is in the language that it should be in?"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, Final, Literal

import regex
from pydantic import field_validator

from tutelage.config import nearest
from tutelage.rewards.answers import Tag
from tutelage.rewards.base import Reward
from tutelage.rewards.thinking import thinking_of
from tutelage.types import Prompt, Sample

_LATIN = "af ca cs da de en es et eu fi fr hr hu id is it lt lv ms nl no pl pt ro sk sl sq sv sw tr vi"
_CYRILLIC, _ARABIC, _DEVANAGARI = "be bg kk mk ru sr uk", "ar fa ur", "hi mr ne"
_SCRIPTS: Final[dict[str, str]] = {
    **dict.fromkeys(_LATIN.split(), "Latin"),
    **dict.fromkeys(_CYRILLIC.split(), "Cyrillic"),
    **dict.fromkeys(_ARABIC.split(), "Arabic"),
    **dict.fromkeys(_DEVANAGARI.split(), "Devanagari"),
    **{"am": "Ethiopic", "bn": "Bengali", "el": "Greek", "gu": "Gujarati", "he": "Hebrew", "hy": "Armenian"},
    **{"ja": "Han Hiragana Katakana", "ka": "Georgian", "km": "Khmer", "kn": "Kannada", "ko": "Hangul", "lo": "Lao"},
    **{"ml": "Malayalam", "my": "Myanmar", "pa": "Gurmukhi", "si": "Sinhala", "ta": "Tamil", "te": "Telugu"},
    **{"th": "Thai", "zh": "Han"},
}
_UNSPACED = "Han Hiragana Katakana Khmer Lao Myanmar Thai"  # scripts that put nothing between two words
_TAG = regex.compile(r"</?[A-Za-z][\w-]*>")
_MATHS = regex.compile(r"\$\$.*?\$\$|\$[^$\n]*\$|\\\(.*?\\\)|\\\[.*?\\\]|\\[a-zA-Z]+", regex.DOTALL)


class LanguageReward(Reward):
    """The share of the words that are in the target language; 0 where there is no word (DeepSeek-R1, 2501.12948).

    A language is told by its Unicode script, and by nothing else: English for German goes unnoticed, as does Chinese
    for Japanese (not the other way round: kana are no Chinese), but Chinese for English does not. The paper does not
    say how it tells them. Numbers, punctuation, formulas between dollars or LaTeX's brackets, LaTeX's commands, tags,
    and single Latin or Greek letters (names of variables) are no words. Where a script puts nothing between words,
    each letter is one.
    """

    isolated: ClassVar[bool] = False

    type: str = "language"
    language: str  # its code: en, zh, ...
    reads: Literal["thinking", "whole"] = "thinking"  # what stands before </think>, as in the paper; or the whole text
    think: Tag = "think"

    @field_validator("language")
    @classmethod
    def _known(cls, language: str) -> str:
        if language not in _SCRIPTS:
            raise ValueError(f"no script is known for '{language}': {nearest(language, list(_SCRIPTS))}")
        return language

    def score(self, prompt: Prompt, sample: Sample) -> float:
        text = thinking_of(sample.text, self.think) if self.reads == "thinking" else sample.text
        words = _word(_UNSPACED).findall(_MATHS.sub(" ", _TAG.sub(" ", text)))
        target = _letters(_SCRIPTS[self.language])
        return sum(target.match(word) is not None for word in words) / len(words) if words else 0.0


@lru_cache(maxsize=8)
def _letters(scripts: str) -> regex.Pattern[str]:
    return regex.compile(f"[{_classes(scripts)}]")


@lru_cache(maxsize=1)
def _word(unspaced: str) -> regex.Pattern[str]:
    """One letter of a script that is written without spaces; or a run of others, but no single Latin or Greek one."""
    one = rf"[\p{{L}}&&[{_classes(unspaced)}]]\p{{M}}*"
    other = rf"[\p{{L}}--[{_classes(unspaced)}]]\p{{M}}*"
    run = rf"{other}(?:['’-]?{other})"
    return regex.compile(rf"{one}|(?=[^\p{{Latin}}\p{{Greek}}]|{run}){run}*", regex.V1)


def _classes(scripts: str) -> str:
    return "".join(rf"\p{{scx={script}}}" for script in scripts.split())
