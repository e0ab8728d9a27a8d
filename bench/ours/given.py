"""The benchmark's prompts and rewards as parts of a recipe, so that the measured step is the rl stage's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from bench.worth import WORTH
from tutelage.environments import Environment
from tutelage.rewards import Reward
from tutelage.types import Message, Prompt, Sample, Split


class Worth(Reward):
    """One of bench/worth.py's functions, called in this process."""

    isolated: ClassVar[bool] = False

    type: str = "worth"
    function: Literal["vowels", "answer"]

    def score(self, prompt: Prompt, sample: Sample) -> float:
        return WORTH[self.function](sample.text, prompt.answer)


class Given(Environment):
    """The prompts of a specification."""

    type: str
    file: str

    def prompts(self, split: Split) -> Sequence[Prompt]:
        return [
            Prompt(
                given["id"],
                messages=tuple(Message(**message) for message in given.get("messages", ())),
                text=given.get("text"),
                answer=given.get("answer"),
            )
            for given in self._spec()["prompts"]
        ]

    def scorer(self) -> Reward:
        return Worth(function=self._spec()["reward"])

    def _spec(self) -> dict:
        return json.loads(Path(self.file).read_text())
