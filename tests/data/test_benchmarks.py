"""Benchmarks in the fields that their files have: what is asked, and what the gold answer is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tutelage.data import build_prompt_source
from tutelage.errors import DataError
from tutelage.types import Prompt


def prompt_of(folder: Path, row: dict[str, Any], **table: Any) -> Prompt:
    (folder / "rows.jsonl").write_text(json.dumps(row))
    (prompt,) = build_prompt_source({"type": "jsonl", "path": str(folder / "rows.jsonl"), **table}, "source").load()
    return prompt


def test_gsm8k(tmp_path: Path) -> None:
    row = {"question": "Natalia sold 48 clips, then half as many?", "answer": "48/2 = <<48/2=24>>24\n#### 1,072"}
    prompt = prompt_of(tmp_path, row, format="gsm8k")
    assert (prompt.messages[0].content, prompt.answer) == (row["question"], "1072")
    assert prompt.meta["solution"] == row["answer"]
    assert prompt_of(tmp_path, row).answer == row["answer"]  # unnamed, the fields are read as they are
    with pytest.raises(DataError, match=r"rows.jsonl:1: field 'answer' must end with '#### '"):
        prompt_of(tmp_path, {**row, "answer": "24"}, format="gsm8k")


@pytest.mark.parametrize(
    ("row", "name", "gold"),
    [
        (
            {"problem": "What is $1+1$?", "solution": "$\\boxed{2}$", "answer": "2", "unique_id": "test/1"},
            "test/1", "2",
        ),
        ({"ID": "2024-I-1", "Problem": "What is $1+1$?", "Solution": "...", "Answer": 204}, "2024-I-1", "204"),
        ({"id": "7", "problem": "What is $1+1$?", "answer": "070"}, "7", "070"),
    ],
)  # fmt: skip
def test_math_500_and_aime(tmp_path: Path, row: dict[str, Any], name: str, gold: str) -> None:
    prompt = prompt_of(tmp_path, row)
    assert (prompt.id, prompt.messages[0].content, prompt.answer) == (name, "What is $1+1$?", gold)


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Which?", "subject": "law", "choices": ["one", "two", "three"], "answer": 1},  # MMLU
        {"question": "Which?", "options": ["one", "two", "three"], "answer": "B", "answer_index": 1},  # MMLU-Pro
        {
            "question": "Which?",
            "choices": {"text": ["one", "two", "three"], "label": ["1", "2", "3"]},
            "answerKey": "2",
        },
    ],
)
def test_choices(tmp_path: Path, row: dict[str, Any]) -> None:
    prompt = prompt_of(tmp_path, row)
    assert prompt.messages[0].content == "Which?\n\nA. one\nB. two\nC. three"
    assert prompt.answer == "B"


def test_a_right_choice_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="field 'answer' names none of the 2 choices"):
        prompt_of(tmp_path, {"question": "Which?", "choices": ["one", "two"], "answer": 2})


def test_mbpp(tmp_path: Path) -> None:
    row = {
        "task_id": 11,
        "text": "Write add.",
        "code": "def add(a, b): return a + b",
        "test_list": ["assert add(1, 2) == 3"],
    }
    prompt = prompt_of(tmp_path, {**row, "test_setup_code": "import math"})
    assert prompt.messages[0].content == "Write add.\nYour code should pass these tests:\n\nassert add(1, 2) == 3"
    assert (prompt.id, prompt.answer) == ("mbpp-11", row["code"])
    assert (prompt.meta["test_list"], prompt.meta["setup"]) == (row["test_list"], "import math")
    sanitised = {**{k: v for k, v in row.items() if k != "text"}, "prompt": "Write add.", "test_imports": ["import re"]}
    assert prompt_of(tmp_path, sanitised).meta["setup"] == "import re"


def test_ifeval(tmp_path: Path) -> None:
    row = {"key": 1000, "prompt": "No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    prompt = prompt_of(tmp_path, row)
    assert (prompt.id, prompt.messages[0].content) == ("1000", "No commas.")
    assert prompt.meta["instruction_id_list"] == ["punctuation:no_comma"]
