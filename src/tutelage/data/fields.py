"""The fields of one row, taken out with refusals that name the place, the field and the remedy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

from tutelage.config import nearest
from tutelage.errors import DataError
from tutelage.types import Message, Role

Row = Mapping[str, Any]
_DEEPEST = 100  # lists in lists


def row_of(value: object, place: str) -> Row:
    """The row as a mapping. Raises DataError for anything else, and for text that no tokenizer can take."""
    if not isinstance(value, Mapping):
        raise DataError(f"{place}: a row must be an object with fields, not {_kind(value)}")
    for name, field in cast(Row, value).items():
        _check_text(name, f"{place}: the name of field {name!r}")
        _check_text(field, f"{place}: field '{name}'")
    return cast(Row, value)


def text_of(row: Row, field: str, place: str, numbers: bool = False) -> str:
    """The text of a field. With `numbers`, a number counts as its digits."""
    if field not in row:
        raise DataError(f"{place}: no field '{field}'; {nearest(field, list(row))}")
    value = row[field]
    if numbers and isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    return _text(value, f"{place}: field '{field}'")


def texts_of(row: Row, field: str, place: str) -> list[str]:
    """The texts of a field that is a list of them."""
    return [_text(value, f"{place}: {field}[{index}]") for index, value in enumerate(_list_of(row, field, place))]


def number_of(row: Row, field: str, place: str) -> float:
    """The number of a field; it must be finite."""
    if field not in row:
        raise DataError(f"{place}: no field '{field}'; {nearest(field, list(row))}")
    return _number(row[field], f"{place}: field '{field}'")


def numbers_of(row: Row, field: str, place: str) -> list[float]:
    """The numbers of a field that is a list of them; they must be finite."""
    return [_number(value, f"{place}: {field}[{index}]") for index, value in enumerate(_list_of(row, field, place))]


def shares_of(row: Row, field: str, place: str) -> list[float]:
    """The values of a field that is a list of true and false, or of numbers from 0 to 1."""
    return [_share(value, f"{place}: {field}[{index}]") for index, value in enumerate(_list_of(row, field, place))]


def id_of(row: Row, field: str, place: str) -> str:
    """The row's own id, or its place where it has none."""
    return place if row.get(field) is None else text_of(row, field, place, numbers=True)


def messages_of(row: Row, field: str, place: str) -> list[Message]:
    """The turns of a conversation."""
    if not is_list(row.get(field)) or not row[field]:
        raise DataError(f"{place}: field '{field}' must be a list of messages, not {_kind(row.get(field))}")
    messages: list[Message] = []
    for index, turn in enumerate(cast(Sequence[object], row[field])):
        where = f"{place}: {field}[{index}]"
        if not isinstance(turn, Mapping):
            raise DataError(f"{where}: must be an object with 'role' and 'content', not {_kind(turn)}")
        message = cast(Row, turn)
        role = text_of(message, "role", where)
        if role not in get_args(Role):
            raise DataError(f"{where}: unknown role '{role}': {nearest(role, get_args(Role))}")
        if message.get("tool_calls"):
            raise DataError(f"{where}: 'tool_calls' would be lost; write the call into 'content'")
        messages.append(Message(cast(Role, role), text_of(message, "content", where)))
    return messages


def marks_of(row: Row, field: str, place: str) -> list[bool | None]:
    """Which turns of a conversation, read by `messages_of`, are marked to be learned from; see `mark_of`."""
    turns = enumerate(cast(Sequence[Row], row[field]))
    return [mark_of(turn, turn["role"], f"{place}: {field}[{index}]") for index, turn in turns]


def mark_of(turn: Row, role: Role, where: str) -> bool | None:
    """Whether a turn is to be learned from, by `weight` (0 or 1) or `train` (true or false). None: it does not say."""
    given = {field: turn[field] for field in ("weight", "train") if turn.get(field) is not None}
    for field, value in given.items():
        if value not in (0, 1):
            raise DataError(f"{where}: '{field}' must be 0 or 1, false or true (given: {value!r})")
        if value and role != "assistant":
            raise DataError(
                f"{where}: '{field}' marks a turn of the {role} to be learned from, but only the assistant's can be; "
                f"set it to 0, or leave it out"
            )
    if len(given) > 1:
        raise DataError(f"{where}: has both 'weight' and 'train'; keep one of them")
    return bool(next(iter(given.values()))) if given else None


def is_list(value: object) -> bool:
    """Whether a field's value is a list, as JSON, Parquet and Python have them."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def _list_of(row: Row, field: str, place: str) -> Sequence[object]:
    if field not in row:
        raise DataError(f"{place}: no field '{field}'; {nearest(field, list(row))}")
    if not is_list(row[field]) or not row[field]:
        raise DataError(f"{place}: field '{field}' must be a list, not {_kind(row[field])}")
    return cast(Sequence[object], row[field])


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{what} must be text, not {_kind(value)}")
    if not value.strip():
        raise DataError(f"{what} is empty")
    return value


def _number(value: object, what: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise DataError(f"{what} must be a number, not {_kind(value)}")
    if not math.isfinite(value):
        raise DataError(f"{what} is {value}; it must be a finite number")
    return float(value)


def _share(value: object, what: str) -> float:
    number = float(value) if isinstance(value, bool) else _number(value, what)
    if not 0.0 <= number <= 1.0:
        raise DataError(f"{what} is {number:g}; it must be true or false, or a share from 0 to 1")
    return number


def _check_text(value: object, place: str, depth: int = 0) -> None:
    if depth > _DEEPEST:
        raise DataError(f"{place[:200]}: nested too deeply to be a row")
    if isinstance(value, str):
        if "\x00" in value:
            raise DataError(f"{place} holds a NUL character; remove it")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(f"{place}: character {error.start + 1} is a lone surrogate; repair it") from None
    elif isinstance(value, Mapping):
        for name, inner in cast(Row, value).items():
            _check_text(name, f"{place}: the name {name!r}")
            _check_text(inner, f"{place}.{name}", depth + 1)
    elif isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        for index, inner in enumerate(cast(Sequence[object], value)):
            _check_text(inner, f"{place}[{index}]", depth + 1)


def _kind(value: object) -> str:
    """What a value is, in the words of a data file."""
    if value is None:
        return "null"
    if isinstance(value, (list, tuple, dict)) and not value:
        return "empty"
    names = {"dict": "an object", "list": "a list", "str": "text", "bool": "true or false"}
    return names.get(type(value).__name__, f"a {type(value).__name__}")
