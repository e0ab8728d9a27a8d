"""Scores by stage: each measurement stands beside the model that it is of, and under what it was of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.report.factory import write_json
from tutelage.report import build_report
from tutelage.report.by_stage import ScoreTable, scores_by_stage
from tutelage.report.read import read_run
from tutelage.report.story import evaluation_tables, headline

GREEDY = {"temperature": 0.0}


def numbers(mean: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 50}


def written(folder: Path, *stages: tuple[dict[str, Any], dict[str, Any] | None]) -> Path:
    """A run of these stages, each with its result; None: not finished."""
    recipe = {"name": "life", "stage": [table for table, _ in stages]}
    write_json(folder / "recipe.json", {"recipe": recipe})
    for number, (table, result) in enumerate(stages, 1):
        if result is not None:
            write_json(folder / "stages" / f"{number:02d}-{table['name']}" / "result.json", result)
    return folder


def asked(name: str, environment: str, share: float, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    scores = {str(i): [float(i < 100 * share)] for i in range(100)}
    table = {"type": "evaluate", "name": name, "environment": environment, "split": "test", "sampling": GREEDY}
    result = {"type": "evaluate", "scores": scores, "summary": {}, "components": {}}
    parts = {"parts": more.pop("parts")} if "parts" in more else {}
    return table | more, result | parts


def table_of(folder: Path, *stages: tuple[dict[str, Any], dict[str, Any] | None]) -> ScoreTable | None:
    run = read_run(written(folder, *stages))
    return scores_by_stage(run, evaluation_tables(run))


def read(name: str, bits: float) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"type": "pretrain", "name": name, "test": {"type": "text", "path": "a"}}, {"bits_per_byte": numbers(bits)}


def test_each_model_has_what_was_measured_of_it(tmp_path: Path) -> None:
    found = table_of(
        tmp_path,
        read("read", 2.5),
        asked("before", "sums", 0.1),
        ({"type": "sft", "name": "imitate"}, {"steps": 3}),
        ({"type": "label", "name": "judged"}, {}),  # leaves no policy: the newest one is that of `imitate`
        asked("imitated", "sums", 0.5),
        ({"type": "rl", "name": "reason"}, {"steps": 3}),
        asked("reasons", "both", 0.7, parts={"sums": numbers(0.8), "games": numbers(0.6)}),
        asked("again", "sums", 0.3, start="read"),
        (*asked("never", "sums", 0.3)[:1], None),
    )
    assert found is not None
    assert found.columns == ["held-out texts", "sums (held-out questions, greedy)", "games"]
    assert [row.model for row in found.rows] == ["read", "imitate", "reason"]
    first, second, third = (row.scores for row in found.rows)
    assert first["held-out texts"] == "2.500 bits a byte (2.400–2.600)"
    assert first["sums (held-out questions, greedy)"].startswith("30 % (")  # the later one of two
    assert second == {"sums (held-out questions, greedy)": "50 % (40–60)"}
    assert third["games"] == "60 % (50–70)"


def test_what_was_asked_otherwise_has_a_column_of_its_own(tmp_path: Path) -> None:
    found = table_of(
        tmp_path,
        asked("before", "sums", 0.1),
        ({"type": "rl", "name": "reason"}, {"steps": 3}),
        asked("after", "sums", 0.5),
        asked("drawn", "sums", 0.4, sampling={"temperature": 1.0}),
    )
    assert found is not None
    greedy, drawn = "sums (held-out questions, greedy)", "sums (held-out questions, temperature 1)"
    assert found.columns == [greedy, drawn]
    assert [(row.model, sorted(row.scores)) for row in found.rows] == [("base", [greedy]), ("reason", [greedy, drawn])]


def test_the_headline_is_of_what_was_asked_last(tmp_path: Path) -> None:
    rl = ({"type": "rl", "name": "reason"}, {"steps": 3})
    games = [asked("g1", "games", 0.2), asked("g2", "games", 0.9)]
    folder = written(tmp_path, *games, asked("s1", "sums", 0.1), rl, asked("s2", "sums", 0.5), asked("x", "other", 0.3))
    assert headline(evaluation_tables(read_run(folder))).startswith(
        "Accuracy on 100 held-out questions rose from 10 % (6–17) to 50 % (40–60)"
    )


def test_texts_that_differ_are_not_beside_each_other(tmp_path: Path) -> None:
    other = {"type": "pretrain", "name": "calculate", "test": {"type": "text", "path": "b"}}
    stages = [read("read", 2.5), (other, {"bits_per_byte": numbers(1.5)}), asked("scores", "sums", 0.1)]
    found = table_of(tmp_path, *stages)
    assert found is not None
    assert [dict(row.scores) for row in found.rows] == [
        {"held-out texts": "2.500 bits a byte (2.400–2.600)"},
        {"sums": "10 % (6–17)"},
    ]


def test_where_the_evaluations_say_all_there_is_no_such_table(tmp_path: Path) -> None:
    rl = ({"type": "rl", "name": "reason"}, {"steps": 3})
    assert table_of(tmp_path / "a", asked("before", "sums", 0.1), rl, asked("after", "sums", 0.5)) is None
    assert table_of(tmp_path / "b", asked("one", "sums", 0.1), asked("two", "games", 0.5)) is None
    stages = [asked("before", "sums", 0.1), rl, asked("after", "sums", 0.5), asked("game", "games", 0.2)]
    page = build_report(written(tmp_path / "c", *stages)).read_text(encoding="utf-8")
    assert "Scores by stage" in page
    assert page.index("Scores by stage") < page.index("Evaluation on sums")
    page = build_report(written(tmp_path / "d", *stages[:3])).read_text(encoding="utf-8")
    assert "Scores by stage" not in page
