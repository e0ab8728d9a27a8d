"""Metrics and samples as tables: the numbers that the logs have, columns of every row, texts untouched."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.report.factory import append, write_run
from tutelage.errors import ConfigError, MissingExtraError, RunFolderError
from tutelage.report import write_tables

parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
ODD = 'a "quoted",\nmulti-line ünïcödé =1+1'


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = write_run(tmp_path / "run", questions=2, steps=2, until="learn")
    append(folder / "metrics.jsonl", {"stage": "other", "step": 1, "seconds": 3, "loss": None, "own": 2})
    append(folder / "samples.jsonl", {"stage": "other", "step": 1, "prompt": ODD, "text": ODD, "reward": 1,
                                      "rewards": {"task": 1.0, "late": 0.5}, "token_rewards": [0.5, 0.5]})  # fmt: skip
    return folder


def test_csv(run: Path, tmp_path: Path) -> None:
    metrics, samples = write_tables(run, "csv", tmp_path / "out")
    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["stage"], row["step"]) for row in rows] == [("learn", "1"), ("learn", "2"), ("other", "1")]
    assert (rows[2]["own"], rows[2]["loss"], rows[0]["own"]) == ("2", "", "")
    with samples.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 + 2 * 64 + 1
    assert (rows[-1]["prompt"], rows[-1]["rewards/late"], rows[-1]["token_rewards"]) == (ODD, "0.5", "[0.5, 0.5]")
    assert rows[0]["rewards/late"] == ""


def test_parquet_keeps_kinds(run: Path, tmp_path: Path) -> None:
    metrics, samples = write_tables(run, "parquet", tmp_path / "out")
    table = parquet.read_table(metrics).to_pylist()
    assert [row["step"] for row in table] == [1, 2, 1]
    assert table[0]["lr"] == 1e-5
    assert (table[2]["loss"], table[2]["own"]) == (None, 2)
    table = parquet.read_table(samples).to_pylist()
    assert len(table) == 131
    assert table[-1]["text"] == ODD
    assert table[-1]["reward"] == 1.0
    assert isinstance(table[-1]["reward"], float)


def test_half_a_character_and_values_of_two_kinds(run: Path, tmp_path: Path) -> None:
    with (run / "samples.jsonl").open("a") as file:
        file.write('{"stage": "x", "text": "\\ud800", "reward": true, "step": "one"}\n')
    for format in ("csv", "parquet"):
        write_tables(run, format, tmp_path / format)
    last = parquet.read_table(tmp_path / "parquet/samples.parquet").to_pylist()[-1]
    assert (last["text"], last["reward"], last["step"]) == ("?", "True", "one")


def test_refusals(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="csv and parquet"):
        write_tables(run, "xlsx", tmp_path / "out")
    with pytest.raises(RunFolderError, match="no run lies here"):
        write_tables(tmp_path, "csv", tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="choose another --out"):
        write_tables(run, "csv", tmp_path / "file")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"tutelage\[data\]"):
        write_tables(run, "parquet", tmp_path / "out")
