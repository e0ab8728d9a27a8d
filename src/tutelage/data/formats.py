"""Formats of well-known data sets: each turns its own fields into those that sources read anyway.

A row in ShareGPT's format becomes one with `messages`, one in Alpaca's one with `question` and `answer`, and a
HelpSteer prompt, which takes a row for each of its answers, one with `answers` and `scores`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from tutelage.config import nearest
from tutelage.data import benchmarks
from tutelage.data.convert import left_over
from tutelage.data.fields import Row, is_list, mark_of, number_of, row_of, text_of
from tutelage.data.rows import Placed
from tutelage.errors import DataError
from tutelage.types import Role

Use = Literal["prompts", "conversations", "judged answers"]
"""What a source is asked for."""

Prefer = Literal["helpful", "safer"]
PlacedRow = tuple[str, Row]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a format leaves to choose."""

    score: str | None  # the field that is the score, where there are several
    prefer: Prefer  # the better answer, or the safer one, where rows tell both


@dataclass(frozen=True, slots=True)
class Format:
    """One format: what it is good for, how its rows are told from others, and how they are read.

    `read` gets one row, or the neighbours that ask the same where a prompt takes several.
    """

    uses: frozenset[Use]
    fits: Callable[[Row], bool]
    read: Callable[[Sequence[PlacedRow], Choice], Row]
    several: bool = False


def canonical(rows: Iterable[Placed], name: str, use: Use, choice: Choice) -> Iterator[Placed]:
    """The rows, those of a known format turned into what a source reads. What is no mapping is passed on as it is.

    Args:
        name: a format, `"auto"` (each row's fields tell), or `"fields"` (none: the table's own keys tell).
    """
    for known, neighbours in _neighbours(rows, name, use):
        place, row = neighbours[0]
        yield place, row if known is None else known.read([(at, row_of(one, at)) for at, one in neighbours], choice)


def _neighbours(rows: Iterable[Placed], name: str, use: Use) -> Iterator[tuple[Format | None, list[Placed]]]:
    """Each row with its format, if it has one; together those that give one prompt's answers."""
    held: list[Placed] = []
    held_by: tuple[Format, object] | None = None  # their format and their prompt
    for place, row in rows:
        known = _format_of(cast(Row, row), name, use) if isinstance(row, Mapping) else None
        holder = (known, cast(Row, row).get("prompt")) if known is not None and known.several else None
        if held and holder != held_by:
            yield held_by[0] if held_by else None, held
            held = []
        held_by = holder
        held.append((place, row))
        if holder is None:
            yield known, held
            held = []
    if held:
        yield held_by[0] if held_by else None, held


def _format_of(row: Row, name: str, use: Use) -> Format | None:
    if name != "auto":
        return FORMATS.get(name)
    return next((known for known in FORMATS.values() if use in known.uses and known.fits(row)), None)


def _sharegpt(rows: Sequence[PlacedRow], _: Choice) -> Row:
    """`conversations`: turns with `from` and `value`, and perhaps a mark that tells which to learn from."""
    place, row = rows[0]
    turns = row.get("conversations")
    if not is_list(turns) or not turns:
        raise DataError(f"{place}: field 'conversations' must be a list of turns with 'from' and 'value'")
    messages: list[dict[str, Any]] = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    for index, turn in enumerate(cast(Sequence[object], turns)):
        where = f"{place}: conversations[{index}]"
        speaker = text_of(row_of(turn, where), "from", where)
        if speaker not in _SPEAKERS:
            raise DataError(f"{where}: unknown speaker '{speaker}': {nearest(speaker, list(_SPEAKERS))}")
        role, content = _SPEAKERS[speaker], text_of(cast(Row, turn), "value", where)
        messages.append({"role": role, "content": content, "train": mark_of(cast(Row, turn), role, where)})
    return {**left_over(row, {"conversations", "system"}), "messages": messages}


_SPEAKERS: Mapping[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "system": "system",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}


def _alpaca(rows: Sequence[PlacedRow], _: Choice) -> Row:
    """`instruction`, perhaps with an `input`, and the `output`."""
    place, row = rows[0]
    question = text_of(row, "instruction", place)
    if row.get("input"):
        question += f"\n\n{text_of(row, 'input', place)}"
    rest = left_over(row, {"instruction", "input", "output", "text"})
    return {**rest, "question": question, "answer": text_of(row, "output", place)}


def _hh_rlhf(rows: Sequence[PlacedRow], _: Choice) -> Row:
    """`chosen` and `rejected`: whole transcripts that begin with a blank line and `Human:`."""
    place, row = rows[0]
    return {**row, **{side: _transcript(row, side, place) for side in ("chosen", "rejected")}}


def _transcript(row: Row, field: str, place: str) -> list[dict[str, str]]:
    before, *turns = re.split(r"\n\n(Human|Assistant):", text_of(row, field, place))
    if before.strip() or not turns:
        raise DataError(f"{place}: field '{field}' must be a transcript that begins with a blank line and 'Human:'")
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[who], "content": said.strip()} for who, said in zip(turns[::2], turns[1::2], strict=True)]


def _ultrafeedback(rows: Sequence[PlacedRow], choice: Choice) -> Row:
    """`instruction` and its `completions`, each with a `response` and its scores; or the binarized rows as they are."""
    place, row = rows[0]
    if "completions" not in row:
        return row
    completions = row["completions"]
    if not is_list(completions) or not completions:
        raise DataError(f"{place}: field 'completions' must be a list of objects with 'response' and a score")
    answers: list[str] = []
    scores: list[float] = []
    for index, completion in enumerate(cast(Sequence[object], completions)):
        where = f"{place}: completions[{index}]"
        answers.append(text_of(row_of(completion, where), "response", where))
        scores.append(number_of(cast(Row, completion), choice.score or "overall_score", where))
    rest = left_over(row, {"instruction", "completions"})
    return {**rest, "question": text_of(row, "instruction", place), "answers": answers, "scores": scores}


def _helpsteer(rows: Sequence[PlacedRow], choice: Choice) -> Row:
    """`prompt`, `response` and five marks from 0 to 4; a prompt's answers are rows that follow each other."""
    place, row = rows[0]
    score = choice.score or "helpfulness"
    answers = [text_of(row, "response", place) for place, row in rows]
    scores = [number_of(row, score, place) for place, row in rows]
    first, *turns = re.split(r"<extra_id_1>(Assistant|User)\n", text_of(row, "prompt", place))
    messages = [{"role": "user", "content": first}]
    messages += [
        {"role": who.lower(), "content": said.strip()} for who, said in zip(turns[::2], turns[1::2], strict=True)
    ]
    return {"id": row.get("id"), "messages": messages, "answers": answers, "scores": scores}


def _pku_saferlhf(rows: Sequence[PlacedRow], choice: Choice) -> Row:
    """`response_0` and `response_1`, and which of them is better and which safer."""
    place, row = rows[0]
    field = "better_response_id" if choice.prefer == "helpful" else "safer_response_id"
    best = number_of(row, field, place)
    if best not in (0, 1):
        raise DataError(f"{place}: field '{field}' must be 0 or 1 (given: {best:g})")
    rest = left_over(row, {"prompt", "response_0", "response_1"})
    chosen, rejected = (text_of(row, f"response_{int(side)}", place) for side in (best, 1 - best))
    return {**rest, "question": text_of(row, "prompt", place), "chosen": chosen, "rejected": rejected}


def _has(*fields: str, but: Sequence[str] = ()) -> Callable[[Row], bool]:
    """Whether a row has all of these fields and none of those."""
    return lambda row: (
        all(row.get(field) is not None for field in fields) and not any(row.get(field) is not None for field in but)
    )


def _has_choices(row: Row) -> bool:
    """Whether a row says by number, or by another mark of these benchmarks, which of its choices is right."""
    held = row.get("choices") is not None or row.get("options") is not None
    marked = isinstance(row.get("answer"), int) or "answerKey" in row or "answer_index" in row
    return held and marked and row.get("question") is not None


def _is_transcript(row: Row) -> bool:
    return isinstance(row.get("chosen"), str) and row["chosen"].startswith("\n\nHuman:") and "prompt" not in row


_ASKED: frozenset[Use] = frozenset({"prompts", "conversations"})
_JUDGED: frozenset[Use] = frozenset({"judged answers"})
_PROMPTS: frozenset[Use] = frozenset({"prompts"})
_OURS = ("messages", "question", "prompt")
FORMATS: Mapping[str, Format] = {
    "sharegpt": Format(_ASKED, _has("conversations", but=_OURS), _sharegpt),
    "alpaca": Format(_ASKED, _has("instruction", "output", but=_OURS), _alpaca),
    "hh-rlhf": Format(_JUDGED, _is_transcript, _hh_rlhf),
    "ultrafeedback": Format(_JUDGED, _has("instruction", "completions"), _ultrafeedback),
    "helpsteer": Format(_JUDGED, _has("prompt", "response", "helpfulness"), _helpsteer, several=True),
    "ifeval": Format(_PROMPTS, _has("prompt", "instruction_id_list", "kwargs"), benchmarks.ifeval),
    "mbpp": Format(_PROMPTS, _has("code", "test_list"), benchmarks.mbpp),
    "choices": Format(_PROMPTS, _has_choices, benchmarks.choices),
    "problem": Format(
        _PROMPTS, lambda row: {"problem", "answer"} <= {name.lower() for name in row}, benchmarks.problem
    ),
    "gsm8k": Format(_PROMPTS, lambda _: False, benchmarks.gsm8k),  # its fields are ours; it has to be named
    "pku-saferlhf": Format(_JUDGED, _has("prompt", "response_0", "response_1"), _pku_saferlhf),
}
