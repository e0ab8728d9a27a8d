"""The environment `corpus`: how does a text go on? Any text is a task with a verifiable answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

from pydantic import NonNegativeFloat, model_validator

from tutelage.data.positions import Position, read_positions
from tutelage.environments.base import Environment
from tutelage.errors import DataError
from tutelage.rewards import PredictionReward, Reward
from tutelage.types import Message, Prompt, Split

INSTRUCTION: Final = (
    "Below is the beginning of a text. Think about how it goes on, then write what comes next in \\boxed{}: the next "
    "word or sign, or some of them, exactly as the text has it, with the white space before it.\n\nThe text:\n{context}"
)


class Corpus(Environment):
    r"""Positions of texts that a `positions` stage chose. The model reasons, then predicts what follows.

    Dong et al., 2025, *Reinforcement Pre-Training* (2506.08007): asked in a chat, it writes its prediction as
    `\boxed{...}`; right is what the reward `prediction` says. Hatamizadeh et al., 2025, *RLP* (2510.01265): with
    `plain` the text itself is the prompt, and `beginning` opens a thought; the reward is then `information-gain`.
    """

    type: str = "corpus"
    stage: str | None = None  # a `positions` stage of the same recipe
    path: Path | None = None  # or a file that one left
    least: NonNegativeFloat = 0.0  # entropy of the next token, in nats; RPT's easy 0.5, medium 1.0, hard 1.5
    instruction: str = INSTRUCTION  # the user's turn
    plain: bool = False  # no turns: the text, and the beginning of a thought
    beginning: str = "<think>"

    @model_validator(mode="after")
    def _refuse_what_has_no_effect(self) -> Corpus:
        if (self.stage is None) == (self.path is None):
            raise ValueError("give either stage, a `positions` stage of the recipe, or path, a file that one left")
        if self.plain and "instruction" in self.model_fields_set:
            raise ValueError("instruction: is for a chat; plain texts are asked with `beginning`")
        if not self.plain and "beginning" in self.model_fields_set:
            raise ValueError("beginning: is for plain = true; in a chat the model begins by itself")
        if "{context}" not in self.instruction:
            raise ValueError("instruction: must contain {context}, where the text will stand")
        return self

    @property
    def reads(self) -> tuple[str, ...]:
        return () if self.stage is None else (self.stage,)

    def completed(self, made: Mapping[str, Path]) -> Corpus:
        return self if self.stage is None else self.model_copy(update={"stage": None, "path": made[self.stage]})

    def prompts(self, split: Split) -> Sequence[Prompt]:
        own = [position for position in self._positions if position.split == split]
        asked = [self._prompt(position) for position in own if position.entropy >= self.least]
        if not asked:
            raise DataError(
                f"{self.path}: none of its {len(own)} positions of the split '{split}' has an entropy of least = "
                f"{self.least} or more; it has {len(self._positions)} positions in all"
            )
        return asked

    def scorer(self) -> Reward:
        return PredictionReward()

    @cached_property
    def _positions(self) -> list[Position]:
        assert self.path is not None, "the stage that makes its prompts has not run"
        return read_positions(self.path)

    def _prompt(self, position: Position) -> Prompt:
        meta = {
            "context": position.prompt,
            "context_tokens": position.context_tokens,
            "tokens": position.tokens,
            "ends": position.ends,
            "entropy": position.entropy,
        }
        if self.plain:
            return Prompt(position.id, text=position.prompt + self.beginning, answer=position.answer, meta=meta)
        asked = Message("user", self.instruction.replace("{context}", position.prompt))
        return Prompt(position.id, (asked,), answer=position.answer, meta=meta)
