"""Judged answers: what people, or a model, thought of several answers to one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, Self

from pydantic import model_validator

from tutelage.data.convert import Fields, left_over
from tutelage.data.fields import (
    Row,
    id_of,
    is_list,
    messages_of,
    number_of,
    numbers_of,
    shares_of,
    text_of,
    texts_of,
)
from tutelage.errors import DataError
from tutelage.types import Message, Prompt


class IncomparableError(DataError):
    """A row's answers cannot be compared. A source may be told to leave such rows out."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A prompt's answers, and what somebody thought of each: the higher the score, the better.

    A pair has the scores (1, 0), or (margin, 0) where the row tells by how much. A single answer has 1 if it was
    liked and 0 if not. Answers may tie, but not all of them.

    Where it is `stepwise`, `answers` are the steps of one answer, in their order, and `scores` say how right each is, 0
    to 1: there is nothing to compare.
    """

    prompt: Prompt
    answers: tuple[str, ...]
    scores: tuple[float, ...]
    stepwise: bool = False

    def __post_init__(self) -> None:
        if not self.answers or len(self.answers) != len(self.scores):
            raise ValueError(f"judged answers {self.id!r}: give one or more answers and a score for each")
        if self.stepwise and not all(0.0 <= score <= 1.0 for score in self.scores):
            raise ValueError(f"judged steps {self.id!r}: a step's label must lie between 0 and 1")

    @property
    def id(self) -> str:
        return self.prompt.id

    def pairs(self) -> list[tuple[int, int, float]]:
        """Every two answers that differ in score: the better one, the worse one, the difference (above 0)."""
        if self.stepwise:
            return []
        ordered = [
            (i, j) if self.scores[i] > self.scores[j] else (j, i) for i, j in combinations(range(len(self.scores)), 2)
        ]
        differences = [(i, j, self.scores[i] - self.scores[j]) for i, j in ordered]
        return [pair for pair in differences if pair[2] > 0]


class JudgedFields(Fields):
    """Which field of a row is what, for judged answers too.

    A row has `chosen` and `rejected`, or `answers` with `scores` or `ranks` (1 is the best), or `completion` with
    `label`, or the steps of one answer as `completions` with `labels`. It asks with `messages` or `question`, or with a
    plain `prompt` or one that is a list of messages; where `chosen` and `rejected` are whole conversations, with what
    these share.
    """

    chosen: str = "chosen"
    rejected: str = "rejected"
    margin: str = "margin"  # by how much the chosen is better; a row may have it
    score_chosen: str = "score_chosen"  # the same as two scores
    score_rejected: str = "score_rejected"
    answers: str = "answers"
    scores: str = "scores"
    ranks: str = "ranks"
    label: str = "label"
    steps: str = "completions"  # of one answer, and how right each is: TRL's format for process reward models
    labels: str = "labels"
    score_range: tuple[float, float] | None = None  # [lowest, highest] that a score may be
    incomparable: Literal["refuse", "drop"] = "refuse"  # rows whose answers tie, are the same, or part too early

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.score_range is not None and self.score_range[0] >= self.score_range[1]:
            raise ValueError("score_range must be [lowest, highest]")
        return self

    def judged_of(self, row: Row, place: str) -> Judged:
        """The row as judged answers."""
        if row.get(self.chosen) is not None or row.get(self.rejected) is not None:
            return self._pair(row, place)
        if row.get(self.answers) is not None:
            return self._several(row, place)
        if row.get(self.label) is not None:
            return self._single(row, place)
        if row.get(self.steps) is not None:
            return self._stepwise(row, place)
        raise DataError(
            f"{place}: no judged answers: wanted '{self.chosen}' and '{self.rejected}', '{self.answers}' and "
            f"'{self.scores}' or '{self.ranks}', '{self.completion}' and '{self.label}', or '{self.steps}' and "
            f"'{self.labels}' (its fields: {list(row)})"
        )

    def _pair(self, row: Row, place: str) -> Judged:
        for side in (self.chosen, self.rejected):
            if row.get(side) is None:
                raise DataError(f"{place}: no field '{side}'; a comparison has two sides")
        if is_list(row[self.chosen]) != is_list(row[self.rejected]):
            raise DataError(f"{place}: '{self.chosen}' and '{self.rejected}' must both be text, or both messages")
        if is_list(row[self.chosen]):
            leading, answers = self._last_turns(row, place)
            prompt = self._prompt(row, place, leading)
        else:
            answers = (text_of(row, self.chosen, place), text_of(row, self.rejected, place))
            prompt = self._prompt(row, place)
        if answers[0] == answers[1]:
            raise IncomparableError(f"{place}: '{self.chosen}' and '{self.rejected}' are the same; {_REMEDY}")
        return Judged(prompt, answers, (self._difference(row, place), 0.0))

    def _difference(self, row: Row, place: str) -> float:
        """By how much the chosen answer is better."""
        difference, what = 1.0, ""
        if row.get(self.margin) is not None:
            difference, what = number_of(row, self.margin, place), f"'{self.margin}'"
        elif row.get(self.score_chosen) is not None or row.get(self.score_rejected) is not None:
            chosen, rejected = (number_of(row, field, place) for field in (self.score_chosen, self.score_rejected))
            self._check_scores((chosen, rejected), place)
            difference, what = chosen - rejected, f"'{self.score_chosen}' less '{self.score_rejected}'"
        if difference < 0:
            raise DataError(f"{place}: {what} is {difference:g}: the chosen answer is the worse one; swap them")
        if difference == 0:
            raise IncomparableError(f"{place}: {what} is 0: neither answer is better; {_REMEDY}")
        return difference

    def _several(self, row: Row, place: str) -> Judged:
        answers = texts_of(row, self.answers, place)
        if row.get(self.scores) is None and row.get(self.ranks) is not None:
            field = self.ranks
            ranks = numbers_of(row, field, place)
            scores = [max(ranks) - rank for rank in ranks]
        else:
            field = self.scores
            scores = numbers_of(row, field, place)
            self._check_scores(scores, place)
        if len(scores) != len(answers):
            raise DataError(f"{place}: {len(answers)} '{self.answers}' but {len(scores)} '{field}'; give one for each")
        if len(scores) > 1 and len(set(scores)) == 1:
            raise IncomparableError(f"{place}: all '{field}' are equal, so no answer is better; {_REMEDY}")
        for i, j in combinations(range(len(answers)), 2):
            if answers[i] == answers[j] and scores[i] != scores[j]:
                raise IncomparableError(
                    f"{place}: {self.answers}[{i}] and {self.answers}[{j}] are the same and are scored "
                    f"{scores[i]:g} and {scores[j]:g}; {_REMEDY}"
                )
        return Judged(self._prompt(row, place), tuple(answers), tuple(scores))

    def _single(self, row: Row, place: str) -> Judged:
        if row[self.label] not in (0, 1):
            raise DataError(f"{place}: field '{self.label}' must be true or false (given: {row[self.label]!r})")
        if is_list(row.get(self.completion)):
            turns = messages_of(row, self.completion, place)
            answer = _answer(turns, self.completion, place)
            prompt = self._prompt(row, place, tuple(turns[:-1]))
        else:
            answer, prompt = text_of(row, self.completion, place), self._prompt(row, place)
        return Judged(prompt, (answer,), (float(row[self.label]),))

    def _stepwise(self, row: Row, place: str) -> Judged:
        steps, labels = texts_of(row, self.steps, place), shares_of(row, self.labels, place)
        if len(steps) != len(labels):
            raise DataError(
                f"{place}: {len(steps)} '{self.steps}' but {len(labels)} '{self.labels}'; give one for each step"
            )
        return Judged(self._prompt(row, place), tuple(steps), tuple(labels), stepwise=True)

    def _last_turns(self, row: Row, place: str) -> tuple[tuple[Message, ...], tuple[str, str]]:
        """What two conversations share, and the answer that each ends with."""
        chosen, rejected = (messages_of(row, side, place) for side in (self.chosen, self.rejected))
        answers = (_answer(chosen, self.chosen, place), _answer(rejected, self.rejected, place))
        if chosen[:-1] != rejected[:-1]:
            shared = next(
                (i for i, (ours, theirs) in enumerate(zip(chosen, rejected, strict=False)) if ours != theirs),
                min(len(chosen), len(rejected)),
            )
            raise IncomparableError(
                f"{place}: '{self.chosen}' and '{self.rejected}' part at message {shared}, before their last turns, so "
                f"they answer different prompts; {_REMEDY}"
            )
        return tuple(chosen[:-1]), answers

    def _prompt(self, row: Row, place: str, leading: Sequence[Message] | None = None) -> Prompt:
        """What was asked. Turns that lead to an answer come after the row's own prompt, unless they begin with it.

        A text under `prompt` is a user's turn where the answers are messages (`leading` is not None), else plain.
        """
        messages, text = tuple(leading or ()), None
        if is_list(row.get(self.prompt)):
            asked = tuple(messages_of(row, self.prompt, place))
            messages = messages if messages[: len(asked)] == asked else (*asked, *messages)
        elif not messages:
            if row.get(self.messages) is not None or self.question in row or self.prompt not in row:
                messages, text = self.asked(row, place)
            elif leading is None:
                text = text_of(row, self.prompt, place)
            else:
                messages = (Message("user", text_of(row, self.prompt, place)),)
        if messages and messages[-1].role == "assistant":
            raise DataError(f"{place}: the prompt ends with the assistant's turn; it must end before the answers")
        used = {self.id, self.messages, self.question, self.prompt, self.completion, self.label, self.answers}
        used |= {self.chosen, self.rejected, self.margin, self.score_chosen, self.score_rejected}
        used |= {self.scores, self.ranks, self.steps, self.labels}
        messages = self.with_system(list(messages)) if messages else ()
        return Prompt(id_of(row, self.id, place), messages, text, meta=left_over(row, used))

    def _check_scores(self, scores: Sequence[float], place: str) -> None:
        if self.score_range is None:
            return
        low, high = self.score_range
        for score in scores:
            if not low <= score <= high:
                raise DataError(f"{place}: score {score:g} is not in score_range [{low:g}, {high:g}]; correct either")


_REMEDY = "remove the row, or set incomparable = 'drop'"


def _answer(turns: Sequence[Message], field: str, place: str) -> str:
    if turns[-1].role != "assistant":
        raise DataError(f"{place}: {field} must end with the assistant's turn, not the {turns[-1].role}'s")
    return turns[-1].content
