"""The source `arithmetic-text`: sums, differences and products written out, from which a model learns to calculate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, Self

from pydantic import PositiveInt, field_validator, model_validator

from tutelage.data.arithmetic import ArithmeticQuestions, Operator, Question, compute, expression, swapped
from tutelage.data.chat import Conversation
from tutelage.data.formats import Use
from tutelage.data.preferences import Judged
from tutelage.data.source import AnySource
from tutelage.data.told import asked_and_answered, texts_of
from tutelage.errors import ConfigError, DataError
from tutelage.types import Prompt, Split


class ArithmeticTextSource(ArithmeticQuestions, AnySource):
    """Texts of the questions that the environment `arithmetic` asks under the same keys, with their answers.

    No line of a text for training is a question asked for testing: what has one among its steps is left out.
    """

    type: Literal["arithmetic-text"] = "arithmetic-text"
    split: Split = "train"
    template: str = "{expression} = {answer}"  # or with {steps}: the second operand place by place, a line for each
    per_text: PositiveInt = 1  # questions in a text
    question: str | None = None  # "What is {expression}?", asked by the user: the text is what the assistant answers

    @field_validator("template")
    @classmethod
    def _tells_the_answer(cls, template: str) -> str:
        names = set(re.findall(r"\{(\w*)\}", template))
        if not names & {"answer", "steps"} or names - {"expression", "answer", "steps"}:
            raise ValueError("must hold {answer} or {steps}, and may hold {expression}; nothing else in braces")
        return template

    @model_validator(mode="after")
    def _asks_one_at_a_time(self) -> Self:
        if self.question is None:
            return self
        if "{expression}" not in self.question:
            raise ValueError("question: must hold {expression}")
        if self.per_text > 1:
            raise ValueError("per_text: with a question each text is the answer to one")
        return self

    def check(self, where: str, use: Use) -> None:
        if use != "conversations":
            raise ConfigError(f"{where}: 'arithmetic-text' tells and does not ask; take the environment 'arithmetic'")
        try:
            self.splits()
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    def load(self) -> list[Prompt]:
        raise DataError("the arithmetic-text source holds texts, no prompts")

    def load_judged(self) -> list[Judged]:
        raise DataError("the arithmetic-text source holds texts, no judged answers")

    def load_conversations(self) -> list[Conversation]:
        questions = self._questions()
        lines = [self._told(question) for question in questions]
        if self.question is None:
            return texts_of("arithmetic", lines, self.per_text)
        asked = [self.question.replace("{expression}", expression(question)) for question in questions]
        return asked_and_answered("arithmetic", asked, lines)

    def _questions(self) -> list[Question]:
        splits = self.splits()
        if self.split == "test" or "{steps}" not in self.template:
            return splits[self.split]
        held_out = {*splits["test"], *map(swapped, splits["test"])}
        kept = [question for question in splits["train"] if held_out.isdisjoint(steps(question))]
        if not kept:
            raise DataError(
                "the arithmetic-text source: every question has one that is held out among its steps; lower "
                "test_questions, or leave {steps} out of the template"
            )
        return kept

    def _told(self, question: Question) -> str:
        lines = "\n".join(f"{expression(step)} = {compute(step)}" for step in steps(question))
        told = self.template.replace("{expression}", expression(question)).replace("{answer}", str(compute(question)))
        return told.replace("{steps}", lines)


def steps(question: Question) -> list[Question]:
    """How to get there: with one place of the second operand at a time, the highest first.

    37 + 58 is 37 + 50 and 87 + 8; 37 * 58 is 37 * 50, 37 * 8 and 1850 + 296. The last one's answer is the question's.
    """
    a, op, b = question
    parts = list(_places(b))
    if op == "*":
        return [*((a, op, part) for part in parts), *_chain(a * parts[0], "+", [a * part for part in parts[1:]])]
    return _chain(a, op, parts)


def _chain(total: int, op: Operator, parts: list[int]) -> list[Question]:
    """Each part after the other, with what there is so far."""
    done: list[Question] = []
    for part in parts:
        done.append((total, op, part))
        total = compute(done[-1])
    return done


def _places(number: int) -> Iterator[int]:
    """507 is 500 and 7; 0 is 0."""
    sign, digits = (-1 if number < 0 else 1), str(abs(number))
    for place, digit in enumerate(digits):
        if digit != "0" or len(digits) == 1:
            yield sign * int(digit) * 10 ** (len(digits) - 1 - place)
