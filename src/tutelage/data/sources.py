"""Sources: where prompts and conversations come from, as a table of a recipe.

    environments.gsm8k.train = { type = "jsonl", path = "gsm8k.jsonl", answer_pattern = '#### (.*)' }

Nothing of a data set is evaluated or unpickled: rows are text, numbers and lists of them.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, PositiveInt, model_validator

from tutelage.config import Part, build
from tutelage.data.chat import Conversation
from tutelage.data.fields import Row, id_of, messages_of, row_of, text_of
from tutelage.data.rows import Placed, read_hub, read_jsonl, read_parquet, read_python
from tutelage.errors import ConfigError, DataError
from tutelage.types import Message, Prompt

T = TypeVar("T", Prompt, Conversation)


class Source(Part):
    """Rows with fields, and which field is what. Subclasses say where the rows come from.

    A row asks with `messages` or else with `question`. As a conversation it has `messages`, or `question` and
    `answer`, or a plain `prompt` with its `completion`. What is left of a row becomes a prompt's `meta`.
    """

    type: str
    limit: PositiveInt | None = None  # None: all rows
    id: str = "id"  # a row without one is called by its place
    messages: str = "messages"
    question: str = "question"
    answer: str = "answer"
    prompt: str = "prompt"
    completion: str = "completion"
    system: str | None = None  # a system turn for rows that bring none
    template: str = "{question}"
    answer_pattern: str | None = None  # regular expression; its group is the gold answer, as '#### (.*)' for GSM8K
    plain: bool = False  # ask with the bare text, for models without a chat template

    @property
    def title(self) -> str:
        """What to call the whole in a message."""
        return f"the {self.type} source"

    @abstractmethod
    def rows(self) -> Iterator[Placed]:
        """The rows in their order, each with its place."""

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

    def load(self) -> list[Prompt]:
        """The prompts. Raises DataError that names the file, the line and the field."""
        return self._load(Prompt, self._prompt)

    def load_conversations(self) -> list[Conversation]:
        """The conversations. Raises DataError that names the file, the line and the field."""
        return self._load(Conversation, self._conversation)

    def _load(self, kind: type[T], convert: Callable[[Row, str], T]) -> list[T]:
        loaded: list[T] = []
        places: dict[str, str] = {}
        for place, row in islice(self.rows(), self.limit):
            made = row if isinstance(row, kind) else convert(row_of(row, place), place)
            if made.id in places:
                raise DataError(f"{place}: id '{made.id}' is already taken at {places[made.id]}; ids must differ")
            places[made.id] = place
            loaded.append(made)
        if not loaded:
            raise DataError(f"{self.title}: the data set is empty; it must have at least one row")
        return loaded

    def _prompt(self, row: Row, place: str) -> Prompt:
        name = id_of(row, self.id, place)
        text: str | None = None
        messages: tuple[Message, ...] = ()
        if row.get(self.messages) is not None:
            messages = self._with_system(messages_of(row, self.messages, place))
            if messages[-1].role == "assistant":
                raise DataError(f"{place}: {self.messages} ends with the assistant's answer; a prompt ends before it")
        elif self.plain:
            text = self._question(row, place)
        else:
            messages = self._with_system([Message("user", self._question(row, place))])
        used = {self.id, self.messages, self.question, self.answer}
        meta = {field: value for field, value in row.items() if field not in used}
        return Prompt(name, messages, text, self._gold(row, place), meta)

    def _conversation(self, row: Row, place: str) -> Conversation:
        name = id_of(row, self.id, place)
        if row.get(self.messages) is not None:
            messages = self._with_system(messages_of(row, self.messages, place))
            roles = [message.role for message in messages if message.role != "system"]
            if "assistant" not in roles[1:]:
                raise DataError(f"{place}: {self.messages} has no answer of the assistant to learn from")
            return Conversation(name, messages)
        if self.question not in row and self.prompt in row:
            completion = text_of(row, self.completion, place)
            return Conversation(name, prompt=text_of(row, self.prompt, place), completion=completion)
        question, answer = self._question(row, place), text_of(row, self.answer, place)
        if self.plain:
            return Conversation(name, prompt=question, completion=answer)
        return Conversation(name, self._with_system([Message("user", question), Message("assistant", answer)]))

    def _question(self, row: Row, place: str) -> str:
        return self.template.replace("{question}", text_of(row, self.question, place))

    def _with_system(self, messages: list[Message]) -> tuple[Message, ...]:
        if self.system is None or messages[0].role == "system":
            return tuple(messages)
        return (Message("system", self.system), *messages)

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


class JsonlSource(Source):
    """A file with one JSON object a line."""

    type: Literal["jsonl"] = "jsonl"
    path: Path

    @property
    def title(self) -> str:
        return str(self.path)

    def rows(self) -> Iterator[Placed]:
        return read_jsonl(self.path)


class ParquetSource(Source):
    """A Parquet file."""

    type: Literal["parquet"] = "parquet"
    path: Path

    @property
    def title(self) -> str:
        return str(self.path)

    def rows(self) -> Iterator[Placed]:
        return read_parquet(self.path)


class HubSource(Source):
    """A data set of the Hugging Face hub, or of its cache where there is no network."""

    type: Literal["hub"] = "hub"
    name: Annotated[str, Field(pattern=r"^\w[\w.-]*/\w[\w.-]*$")]  # owner/name
    subset: str | None = None
    split: str = "train"
    revision: str | None = None

    def rows(self) -> Iterator[Placed]:
        return read_hub(self.name, self.subset, self.split, self.revision)


class PythonSource(Source):
    """What a function of yours returns or yields: `Prompt`s, `Conversation`s, or rows as dictionaries."""

    type: Literal["python"] = "python"
    function: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]  # module:name

    def rows(self) -> Iterator[Placed]:
        return read_python(self.function)


SOURCES: dict[str, type[Source]] = {
    "jsonl": JsonlSource,
    "parquet": ParquetSource,
    "hub": HubSource,
    "python": PythonSource,
}


def build_prompt_source(table: object, where: str) -> Source:
    """The source a table declares, to be asked for prompts with `load()`.

    Args:
        table: the table as read; its `type` is one of `SOURCES`, or your own subclass of `Source` as `module:Class`.
        where: the table's place in the recipe, for messages.

    Raises:
        ConfigError: a key is unknown, wrong, or says nothing about prompts.
    """
    return _build(table, where, {"prompt", "completion"}, "prompts; they are made of messages or question")


def build_conversation_source(table: object, where: str) -> Source:
    """The source a table declares, to be asked for conversations with `load_conversations()`.

    Raises:
        ConfigError: a key is unknown, wrong, or says nothing about conversations.
    """
    return _build(table, where, {"answer_pattern"}, "conversations; the model learns to write the whole answer")


def _build(table: object, where: str, idle: set[str], why: str) -> Source:
    source = build(table, SOURCES, Source, where)
    for key in sorted(idle & source.model_fields_set):
        raise ConfigError(f"{where}.{key}: has no use for {why}")
    return source
