"""Positions of texts at which a policy is asked how they go on: cut out of texts by tokens, and kept in a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from tutelage.data.chat import encode_plain
from tutelage.data.rows import read_jsonl
from tutelage.errors import DataError
from tutelage.types import Split

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BROKEN: Final = "\N{REPLACEMENT CHARACTER}"  # how a tokenizer decodes a part of a character
_PARTS: Final = 4  # bytes of a character at most, so tokens that it may be cut into

Integers = Annotated[tuple[int, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a text, and how the text goes on there.

    | Field | Meaning |
    |---|---|
    | prompt | the text before it |
    | context_tokens | its tokens, as the tokenizer encodes it |
    | answer | the text after it, as far as whole characters of the next tokens go |
    | tokens | the next tokens |
    | ends | bytes of `answer` at which a token ends; an end inside a character, which no text can hit, is left out |
    | entropy | of the next token, in nats, under the model that looked at it |
    """

    id: str
    split: Split
    prompt: str
    answer: str
    ends: Integers
    tokens: Integers
    context_tokens: Integers
    entropy: float


_READER: Final = TypeAdapter(Position)


def pieces(tokenizer: PreTrainedTokenizerBase, text: str, size: int) -> Iterator[list[int]]:
    """The text's tokens in pieces of at most `size`, none of which begins inside a character.

    Each begins with bos where the tokenizer begins a text with it. A piece sees nothing of the one before.
    """
    first = encode_plain(tokenizer, "")  # bos, or nothing
    tokens = encode_plain(tokenizer, text)[len(first) :]
    start, room = 0, size - len(first)
    while start < len(tokens):
        end = start + room
        if end < len(tokens):
            ends = (end - cut for cut in range(min(_PARTS, room)))
            end = next((at for at in ends if not _decoded(tokenizer, tokens[start:at]).endswith(_BROKEN)), end)
        yield [*first, *tokens[start:end]]
        start = end


def position_at(
    tokenizer: PreTrainedTokenizerBase, piece: Sequence[int], place: int, horizon: int
) -> tuple[str, str, tuple[int, ...]] | None:
    """The prompt, the answer and the ends of the position before token `place` of a piece.

    None where it cannot be asked about in text: what comes before it ends inside a character, or is encoded in another
    way where it stands alone; or no text ends where the next `horizon` tokens do.
    """
    before = _decoded(tokenizer, piece[:place])
    if _BROKEN in before or encode_plain(tokenizer, before) != list(piece[:place]):
        return None
    answer, ends = "", list[int]()
    for end in range(place + 1, place + horizon + 1):
        text = _decoded(tokenizer, piece[:end])
        if not text.startswith(before):
            return None
        if _BROKEN not in text and len(text) > len(before) + len(answer):
            answer = text[len(before) :]
            ends.append(len(answer.encode()))
    return (before, answer, tuple(ends)) if ends else None


def write_positions(path: Path, positions: Iterable[Position]) -> None:
    """Writes them as JSON lines, whole or not at all."""
    beside = path.with_name(f".{path.name}.partial")
    beside.write_text("".join(json.dumps(asdict(one)) + "\n" for one in positions), encoding="utf-8")
    beside.replace(path)


def read_positions(path: Path) -> list[Position]:
    """The positions of a file. Raises DataError that names the line and the field."""
    return [_position(row, place) for place, row in read_jsonl(path)]


def _position(row: object, place: str) -> Position:
    try:
        return _READER.validate_python(row)
    except ValidationError as error:
        mistake = error.errors()[0]
        field = ".".join(map(str, mistake["loc"])) or "the line"
        raise DataError(f"{place}: {field}: {mistake['msg']}; this is not what a `positions` stage leaves") from None


def _decoded(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
