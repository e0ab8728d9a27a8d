"""A run's folder as plain data. Whatever is missing, torn or not yet there is left out, never an error."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tutelage.evaluation import Scores

Row = dict[str, Any]
Place = tuple[str, int]
"""A stage's name and a step."""


@dataclass(frozen=True, slots=True)
class StageRecord:
    """One stage of the recipe and what it left."""

    number: int  # from 1
    name: str
    kind: str
    table: Row  # as the recipe has it
    result: Row | None  # None: not finished
    rows: Sequence[Row]  # its lines of metrics.jsonl

    @property
    def seconds(self) -> float | None:
        """How long it worked: as it says itself, or the sum over its steps."""
        if self.result is not None and isinstance(self.result.get("seconds"), (int, float)):
            return float(self.result["seconds"])
        steps = [row["step_seconds"] for row in self.rows if isinstance(row.get("step_seconds"), (int, float))]
        return sum(steps) if steps else None

    @property
    def began(self) -> bool:
        return self.result is not None or bool(self.rows)

    @property
    def scores(self) -> Scores:
        """An evaluation's scores by question; empty for any other stage and before the end."""
        if self.result is None or self.kind not in ("evaluate", "predict"):
            return {}
        return self.result.get("scores", {})


class SampleLog:
    """`samples.jsonl`, which may be far larger than memory: an index of it, and the samples of a place on demand."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[Place, list[int]] = {}
        self.failures: Counter[tuple[str, str]] = Counter()
        for offset, row in _rows(path):
            place = (str(row.get("stage")), int(row.get("step") or 0))
            self._places.setdefault(place, []).append(offset)
            if row.get("failure"):
                self.failures[place[0], str(row["failure"])] += 1

    @property
    def places(self) -> Mapping[Place, int]:
        """How many samples each step of each stage has, in the order written."""
        return {place: len(offsets) for place, offsets in self._places.items()}

    def at(self, place: Place) -> Iterator[Row]:
        """The samples of one step, one after the other."""
        offsets = self._places.get(place, [])
        if not offsets:
            return
        with self._path.open("rb") as file:
            for offset in offsets:
                file.seek(offset)
                yield json.loads(file.readline())


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that the report tells about."""

    folder: Path
    declared: datetime | None
    recipe: Row
    versions: Mapping[str, object]
    machine: Mapping[str, object]
    stages: Sequence[StageRecord]
    samples: SampleLog
    events: Sequence[Row]  # what guards found

    @property
    def finished(self) -> bool:
        return bool(self.stages) and all(stage.result is not None for stage in self.stages)


def read_run(folder: Path) -> Run:
    """Reads a run's folder, finished or not."""
    declaration = folder / "recipe.json"
    table = read_json(declaration) or {}
    recipe = _table(table.get("recipe"))
    metrics: dict[str, list[Row]] = {}
    for _, row in _rows(folder / "metrics.jsonl"):
        if not isinstance(row.get("step"), int):
            continue
        metrics.setdefault(str(row.get("stage")), []).append(row)
    stages = [
        _stage(folder, number, _table(stage), metrics) for number, stage in enumerate(recipe.get("stage", ()), start=1)
    ]
    return Run(
        folder=folder,
        declared=_written(declaration),
        recipe=recipe,
        versions=_table(table.get("versions")),
        machine=_table(table.get("machine")),
        stages=stages,
        samples=SampleLog(folder / "samples.jsonl"),
        events=rows_of(folder / "events.jsonl"),
    )


def _stage(folder: Path, number: int, table: Row, metrics: Mapping[str, Sequence[Row]]) -> StageRecord:
    name = str(table.get("name", number))
    result = read_json(folder / "stages" / f"{number:02d}-{name}" / "result.json")
    return StageRecord(number, name, str(table.get("type", "")), table, result, metrics.get(name, ()))


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Every whole line of a JSONL file with its offset. A kill tears at most the last one; none is worth a report."""
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        offset = 0
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if isinstance(row, dict):
                yield offset, row
            offset += len(line)


def rows_of(path: Path) -> list[Row]:
    """Every whole line of a JSONL file; none where there is no file."""
    return [row for _, row in _rows(path)]


def each_row(path: Path) -> Iterator[Row]:
    """The rows of a JSONL file, one by one; none where there is no file."""
    return (row for _, row in _rows(path))


def read_json(path: Path) -> Row | None:
    """A JSON object; None where the file is missing, torn, or something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _table(value: object) -> Row:
    return value if isinstance(value, dict) else {}


def _written(path: Path) -> datetime | None:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC) if path.is_file() else None
