"""Formats of benchmarks: each row's fields turned into a question, its gold answer, and what its score reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase

from tutelage.data.convert import left_over
from tutelage.data.fields import Row, is_list, number_of, row_of, text_of, texts_of
from tutelage.errors import DataError

PlacedRow = tuple[str, Row]


def gsm8k(rows: Sequence[PlacedRow], _: object) -> Row:
    """`question`, and `answer` whose last line is `#### ` and the number (openai/gsm8k)."""
    place, row = rows[0]
    worked = text_of(row, "answer", place)
    _, mark, gold = worked.rpartition("####")
    if not mark:
        raise DataError(f"{place}: field 'answer' must end with '#### ' and the number")
    return {**row, "answer": gold.strip().replace(",", ""), "solution": worked}


def problem(rows: Sequence[PlacedRow], _: object) -> Row:
    """`problem` and `answer`, in any case: MATH-500 (`unique_id`, `subject`, `level`) and AIME (`ID` or `id`)."""
    place, row = rows[0]
    names = {name.lower(): name for name in row}
    if "problem" not in names or "answer" not in names:
        raise DataError(f"{place}: must have the fields 'problem' and 'answer'")
    question, answer = names["problem"], names["answer"]
    name = next((row[names[key]] for key in ("unique_id", "id") if names.get(key)), None)
    rest = left_over(row, {question, answer, "id", "ID"})
    gold = text_of(row, answer, place, numbers=True)
    return {**rest, "id": name, "question": text_of(row, question, place), "answer": gold}


def choices(rows: Sequence[PlacedRow], _: object) -> Row:
    """`question`, `choices` or `options`, and which is right: MMLU, MMLU-Pro, ARC. The gold answer is its letter.

    Right is `answer`, a number from 0 on or a letter, or ARC's `answerKey`; ARC's `choices` are `text` and `label`.
    """
    place, row = rows[0]
    field = "choices" if row.get("choices") is not None else "options"
    given = row.get(field)
    labels: list[str] = []
    if given is not None and not is_list(given):  # ARC's
        inner = row_of(given, f"{place}: field '{field}'")
        texts, labels = texts_of(inner, "text", place), texts_of(inner, "label", place)
    else:
        texts = texts_of(row, field, place)
    if not 2 <= len(texts) <= len(ascii_uppercase):
        raise DataError(f"{place}: field '{field}' must hold 2 to {len(ascii_uppercase)} choices (it has {len(texts)})")
    letters = ascii_uppercase[: len(texts)]
    right = _place_of_right(row, place, labels or list(letters), letters)
    shown = "\n".join(f"{letter}. {text}" for letter, text in zip(letters, texts, strict=True))
    rest = left_over(row, {"question", field, "answer", "answerKey"})
    question = f"{text_of(row, 'question', place)}\n\n{shown}"
    return {**rest, "question": question, "answer": letters[right], "choices": texts}


def _place_of_right(row: Row, place: str, labels: Sequence[str], letters: str) -> int:
    key = "answerKey" if row.get("answerKey") is not None else "answer"
    if isinstance(row.get(key), int):
        right = int(number_of(row, key, place))
    else:
        said = text_of(row, key, place).strip()
        known = labels if said in labels else list(letters)
        right = known.index(said) if said in known else -1
    if not 0 <= right < len(letters):
        raise DataError(f"{place}: field '{key}' names none of the {len(letters)} choices (given: {row.get(key)!r})")
    return right


def mbpp(rows: Sequence[PlacedRow], _: object) -> Row:
    """`text` or `prompt`, `code` and `test_list` (google-research-datasets/mbpp): its tests are shown, as in the paper.

    The reward `code` reads `test_list` and `setup`.
    """
    place, row = rows[0]
    field = "text" if row.get("text") is not None else "prompt"
    tests = texts_of(row, "test_list", place)
    setup = "\n".join(texts_of(row, "test_imports", place)) if row.get("test_imports") else row.get("test_setup_code")
    asked = f"{text_of(row, field, place)}\nYour code should pass these tests:\n\n" + "\n".join(tests)
    rest = left_over(row, {field, "code", "test_imports", "test_setup_code", "task_id"})
    name = re.sub(r"\W+", "-", f"mbpp-{row['task_id']}") if row.get("task_id") is not None else None
    return {**rest, "id": name, "question": asked, "answer": text_of(row, "code", place), "setup": setup or ""}


def ifeval(rows: Sequence[PlacedRow], _: object) -> Row:
    """`prompt`, `instruction_id_list` and `kwargs` (google/IFEval); the reward `instructions` reads the latter two."""
    place, row = rows[0]
    rest = left_over(row, {"prompt", "key"})
    key = row.get("key")
    return {**rest, "id": None if key is None else str(key), "question": text_of(row, "prompt", place)}
