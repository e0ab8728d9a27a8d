"""What a source is: a table that gives prompts, conversations or judged answers."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Self, TypeVar

from pydantic import PositiveInt, model_validator

from tutelage.config import Part, nearest
from tutelage.data.chat import Conversation
from tutelage.data.convert import Fields
from tutelage.data.fields import Row, row_of
from tutelage.data.formats import FORMATS, Choice, Prefer, Use, canonical
from tutelage.data.preferences import IncomparableError, Judged, JudgedFields
from tutelage.data.rows import Placed
from tutelage.errors import ConfigError, DataError
from tutelage.types import Prompt

T = TypeVar("T", Prompt, Conversation, Judged)


class AnySource(Part):
    """Whatever gives prompts, conversations or judged answers."""

    type: str

    @abstractmethod
    def load(self) -> list[Prompt]:
        """The prompts. Raises DataError that names the file, the line and the field."""

    @abstractmethod
    def load_conversations(self) -> list[Conversation]:
        """The conversations. Raises DataError that names the file, the line and the field."""

    @abstractmethod
    def load_judged(self) -> list[Judged]:
        """The judged answers. Raises DataError that names the file, the line and the field."""

    def check(self, where: str, use: Use) -> None:
        """Refuses what makes no sense for this use, before anything is read. Raises ConfigError."""


class Source(AnySource, JudgedFields):
    """Rows with fields, and which field is what. Subclasses say where the rows come from."""

    limit: PositiveInt | None = None  # None: all rows
    format: str = "auto"  # of FORMATS; "auto": each row's fields tell; "fields": the keys of this table tell
    score: str | None = None  # formats with several scores: which of them; None: the overall one
    prefer: Prefer = "helpful"  # formats with both: the better answer, or the safer one

    @property
    def title(self) -> str:
        """What to call the whole in a message."""
        return f"the {self.type} source"

    @abstractmethod
    def rows(self) -> Iterator[Placed]:
        """The rows in their order, each with its place."""

    @model_validator(mode="after")
    def _check_format(self) -> Self:
        known = [*FORMATS, "auto", "fields"]
        if self.format not in known:
            raise ValueError(f"format: unknown '{self.format}': {nearest(self.format, known)}")
        return self

    def check(self, where: str, use: Use) -> None:
        idle, why = _IDLE[use]
        for key in sorted(idle & self.model_fields_set):
            raise ConfigError(f"{where}.{key}: has no use for {why}")
        if self.format not in FORMATS:
            return
        if use not in FORMATS[self.format].uses:
            fitting = [name for name, known in FORMATS.items() if use in known.uses]
            raise ConfigError(f"{where}.format: '{self.format}' holds no {use}; those that do: {', '.join(fitting)}")
        for key in sorted(_NAMES & self.model_fields_set):
            raise ConfigError(f"{where}.{key}: has no use beside format = '{self.format}', which has names of its own")

    def load(self) -> list[Prompt]:
        return self._load(Prompt, "prompts", self.prompt_of)

    def load_conversations(self) -> list[Conversation]:
        return self._load(Conversation, "conversations", self.conversation_of)

    def load_judged(self) -> list[Judged]:
        return self._load(Judged, "judged answers", self.judged_of)

    def _load(self, kind: type[T], use: Use, convert: Callable[[Row, str], T]) -> list[T]:
        loaded: list[T] = []
        places: dict[str, str] = {}
        dropped: list[str] = []
        for place, row in islice(self._read(use), self.limit):
            try:
                made = row if isinstance(row, kind) else convert(row_of(row, place), place)
            except IncomparableError as error:
                if self.incomparable == "refuse":
                    raise
                dropped.append(str(error))
                continue
            if made.id in places:
                raise DataError(f"{place}: id '{made.id}' is already taken at {places[made.id]}; ids must differ")
            places[made.id] = place
            loaded.append(made)
        if dropped:
            warnings.warn(
                f"{self.title}: {len(dropped)} of {len(loaded) + len(dropped)} rows compare nothing and were left out, "
                f"the first: {dropped[0].split(';')[0]}",
                stacklevel=3,
            )
        if not loaded:
            raise DataError(f"{self.title}: the data set is empty; it must have at least one row")
        return loaded

    def _read(self, use: Use) -> Iterator[Placed]:
        """The rows, in the fields that this table names."""
        named = bool(_NAMES & self.model_fields_set)
        name = "fields" if self.format == "auto" and named else self.format
        return canonical(self.rows(), name, use, Choice(self.score, self.prefer))


# The keys that name a field of a row. Every format has an id, if any has; a template goes with any question.
_NAMES = {key for key, known in JudgedFields.model_fields.items() if known.annotation is str} - {"id", "template"}
_OF_JUDGED = set(JudgedFields.model_fields) - set(Fields.model_fields) | {"score", "prefer"}
_IDLE: Mapping[Use, tuple[set[str], str]] = {
    "prompts": (
        {"prompt", "completion", "text"} | _OF_JUDGED,
        "prompts; they are made of messages or question",
    ),
    "conversations": (
        {"answer_pattern"} | _OF_JUDGED,
        "conversations; the model learns to write the whole answer",
    ),
    "judged answers": (
        {"answer", "answer_pattern", "text"},
        "judged answers; nothing is compared with a gold answer",
    ),
}
