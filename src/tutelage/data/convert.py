"""What a row becomes: a prompt, or a conversation to learn from. Which of its fields is what stands in a table."""

from __future__ import annotations

import re
from typing import Self

from pydantic import model_validator

from tutelage.config import Part
from tutelage.data.chat import Conversation
from tutelage.data.fields import Row, id_of, is_list, marks_of, messages_of, text_of
from tutelage.errors import DataError
from tutelage.types import Message, Prompt


class Fields(Part):
    """Which field of a row is what.

    A row asks with `messages` or else with `question`. As a conversation it has `messages`, or `question` and
    `answer`, or a plain `prompt` with its `completion` (or both as lists of messages), or nothing but `text`. Messages
    may be marked with a `weight`, as in OpenAI's format for fine-tuning, or with `train`: which of the assistant's to
    learn from. What is left of a row becomes a prompt's `meta`.
    """

    id: str = "id"  # a row without one is called by its place
    messages: str = "messages"
    question: str = "question"
    answer: str = "answer"
    prompt: str = "prompt"
    completion: str = "completion"
    text: str = "text"  # all of it is learned
    system: str | None = None  # a system turn for rows that bring none
    template: str = "{question}"
    answer_pattern: str | None = None  # regular expression; its group is the gold answer, as '#### (.*)' for GSM8K
    plain: bool = False  # ask with the bare text, for models without a chat template

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "{question}" not in self.template:
            raise ValueError("template must contain {question}")
        if self.plain and self.system is not None:
            raise ValueError("plain text has no system turn; put it into the template")
        try:
            groups = 0 if self.answer_pattern is None else re.compile(self.answer_pattern).groups
        except re.error as error:
            raise ValueError(f"answer_pattern is not a regular expression: {error}") from None
        if groups > 1:
            raise ValueError("answer_pattern must have one group; write (?:...) for the others")
        return self

    def prompt_of(self, row: Row, place: str) -> Prompt:
        """The row as a prompt. Of a conversation that ends with the assistant's turn, that turn is the gold answer."""
        messages, text = self.asked(row, place)
        gold = self._gold(row, place)
        if messages and messages[-1].role == "assistant":
            if gold is not None:
                raise DataError(f"{place}: {self.messages} ends with an answer and '{self.answer}' is one; drop one")
            messages, gold = messages[:-1], messages[-1].content
            if all(message.role == "system" for message in messages):
                raise DataError(f"{place}: {self.messages} asks nothing: the user's turn is missing before the answer")
        used = {self.id, self.messages, self.question, self.answer}
        return Prompt(id_of(row, self.id, place), messages, text, gold, left_over(row, used))

    def conversation_of(self, row: Row, place: str) -> Conversation:
        """The row as a conversation."""
        name = id_of(row, self.id, place)
        if row.get(self.messages) is not None:
            messages = messages_of(row, self.messages, place)
            roles = [message.role for message in messages if message.role != "system"]
            if "assistant" not in roles[1:]:
                raise DataError(f"{place}: {self.messages} has no answer of the assistant to learn from")
            return self._spoken(name, messages, marks_of(row, self.messages, place), place)
        if self.question not in row and self.prompt in row:
            return self._continued(row, name, place)
        if self.question not in row and self.text in row:
            return Conversation(name, prompt="", completion=text_of(row, self.text, place))
        question, answer = self._question(row, place), text_of(row, self.answer, place)
        if self.plain:
            return Conversation(name, prompt=question, completion=answer)
        return Conversation(name, self.with_system([Message("user", question), Message("assistant", answer)]))

    def asked(self, row: Row, place: str) -> tuple[tuple[Message, ...], str | None]:
        """What a row asks with its messages or its question: turns, or a plain text."""
        if row.get(self.messages) is not None:
            return self.with_system(messages_of(row, self.messages, place)), None
        if self.plain:
            return (), self._question(row, place)
        return self.with_system([Message("user", self._question(row, place))]), None

    def with_system(self, messages: list[Message]) -> tuple[Message, ...]:
        """The messages, after the declared system turn if they bring none."""
        if self.system is None or messages[0].role == "system":
            return tuple(messages)
        return (Message("system", self.system), *messages)

    def _continued(self, row: Row, name: str, place: str) -> Conversation:
        """A prompt and how it goes on: two texts, or two lists of messages."""
        if not is_list(row[self.prompt]):
            prompt, completion = text_of(row, self.prompt, place), text_of(row, self.completion, place)
            return Conversation(name, prompt=prompt, completion=completion)
        written = messages_of(row, self.completion, place)
        if all(message.role != "assistant" for message in written):
            raise DataError(f"{place}: {self.completion} has no answer of the assistant to learn from")
        asked = messages_of(row, self.prompt, place)
        marks = [*marks_of(row, self.prompt, place), *marks_of(row, self.completion, place)]
        return self._spoken(name, [*asked, *written], marks, place)

    def _spoken(self, name: str, turns: list[Message], marks: list[bool | None], place: str) -> Conversation:
        """The turns as a conversation. Where any is marked, those of the assistant not ruled out are learned."""
        messages = self.with_system(turns)
        if all(mark is None for mark in marks):
            return Conversation(name, messages)
        own = [index for index, turn in enumerate(turns) if turn.role == "assistant"]
        learned = tuple(index + len(messages) - len(turns) for index in own if marks[index] is not False)
        if not learned:
            raise DataError(
                f"{place}: no turn of the assistant is left to learn from (messages {', '.join(map(str, own))} are "
                "marked 0 or false); mark one of them 1 or true, or remove the row"
            )
        return Conversation(name, messages, learned=learned)

    def _question(self, row: Row, place: str) -> str:
        return self.template.replace("{question}", text_of(row, self.question, place))

    def _gold(self, row: Row, place: str) -> str | None:
        """The gold answer. It may be missing only where the recipe says nothing about it."""
        stated = {"answer", "answer_pattern"} & self.model_fields_set
        if row.get(self.answer) is None and not stated:
            return None
        answer = text_of(row, self.answer, place, numbers=True)
        if self.answer_pattern is None:
            return answer
        found = re.search(self.answer_pattern, answer)
        if found is None:
            raise DataError(f"{place}: nothing in '{self.answer}' matches answer_pattern {self.answer_pattern!r}")
        return found[found.re.groups].strip()


def left_over(row: Row, used: set[str]) -> dict[str, object]:
    """The fields of a row that have not been used."""
    return {field: value for field, value in row.items() if field not in used}
