"""`tutelage audit` as it is typed: what it names, its exit code, its JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tutelage.cli.commands import app
from tutelage.errors import TutelageError

QUESTIONS = [
    {"question": "Which month follows May?", "answer": "June", "wrong": "July", "equivalents": ["june", "June!"]},
    {"question": "Which month follows July?", "answer": "August"},
]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, QUESTIONS)) + "\n")
    return path


def audited(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["audit", *map(str, words)], catch_exceptions=False)
    return done.exit_code, done.stdout


def test_ones_own_questions_and_json(questions: Path) -> None:
    code, said = audited("exact", "--questions", questions, "--json")
    (one,) = json.loads(said)
    assert (code, one["kind"], one["past"]) == (0, "answer", [])
    assert (one["false_positives"], one["false_negatives"], one["failures"]) == (0.0, 0.0, 0.0)
    assert {trial["text"] for trial in one["trials"] if trial["wanted"] == "payment"} >= {"June", "june", "August"}
    assert {trial["text"] for trial in one["trials"] if trial["name"] == "wrong"} == {"July", "June"}


def test_what_is_past_a_share_exits_with_1(questions: Path) -> None:
    name = "tests.rewards.test_audit:gullible"
    code, said = audited(name, "--questions", questions)
    assert code == 1
    assert "fails: " in said
    assert "master key" in said
    assert audited(name, "--questions", questions, "--max-false-positives", "1", "--max-false-negatives", "1")[0] == 0


def test_tables_files_and_stages(questions: Path, tmp_path: Path) -> None:
    (tmp_path / "reward.toml").write_text('type = "exact"\nignore_case = false\n')
    code, said = audited(tmp_path / "reward.toml", "--questions", questions, "--json")
    (one,) = json.loads(said)
    assert code == 1  # june is not June here
    assert one["past"] == ["25.0% false negatives, at most 0.0%"]
    code, said = audited("quickstart#grpo", "--json")
    assert code == 0
    assert [one["reward"] for one in json.loads(said)] == ["task"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nummeric",), r"REWARD.type: unknown 'nummeric': did you mean 'numeric'"),
        (("regex",), r"REWARD.pattern: Field required"),
        (("{type = ",), "REWARD: not a TOML table"),
        (("absent.toml",), r"absent\.toml: cannot be read"),
        (("quickstart#nothing",), "has no stage 'nothing' with rewards"),
        (("task",), "RECIPE#STAGE"),
    ],
)
def test_what_is_no_reward_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(TutelageError, match=message):
        audited(*words)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "x"}, "has no answer"),
        ({"question": "x", "answer": "y", "equivalents": "z"}, "equivalents: must be a list of texts"),
    ],
)
def test_bad_questions_are_refused(row: dict[str, object], message: str, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(TutelageError, match=rf"q\.jsonl:1: {message}"):
        audited("exact", "--questions", tmp_path / "q.jsonl")
