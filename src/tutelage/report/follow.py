"""Following a run that goes on: what was added to its files since one last looked. Reads only, and only what is new."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

from tutelage.report.read import Row, read_json
from tutelage.training.watch import event_in_words

_TAIL = 256 * 1024  # bytes of the samples' end that are read at first
_LAST = 8  # samples that are remembered


class Tail:
    """The lines that a JSONL file has grown by. A file that was cut back or replaced is read anew."""

    def __init__(self, path: Path, most: int | None = None) -> None:
        """`most`: bytes of its end that are read at first; None: all."""
        self._path, self._most = path, most
        self._offset, self._inode = 0, 0

    def new(self) -> tuple[list[Row], bool]:
        """The whole lines since the last call, and whether what came before them no longer counts."""
        try:
            about = self._path.stat()
        except OSError:
            return [], False
        anew = about.st_ino != self._inode or about.st_size < self._offset
        if anew:
            begun = 0 if self._most is None else max(0, about.st_size - self._most)
            self._inode, self._offset = about.st_ino, begun
        if about.st_size == self._offset:
            return [], anew
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [row for line in whole.splitlines() if (row := _row(line)) is not None], anew


@dataclass(slots=True)
class Seen:
    """Where a run is."""

    name: str = ""
    stages: Sequence[Mapping[str, Any]] = ()  # name, type and steps, as the recipe has them
    finished: frozenset[str] = frozenset()
    metrics: dict[str, list[Row]] = field(default_factory=dict[str, "list[Row]"])  # by stage
    samples: deque[Row] = field(default_factory=lambda: deque[Row](maxlen=_LAST))
    events: list[Row] = field(default_factory=list[Row])
    changed: float = 0.0  # when a line was written last, by the clock of the file system

    @property
    def current(self) -> Mapping[str, Any] | None:
        """The stage under way, or the one that would be next; None: all are finished, or there is none."""
        return next((stage for stage in self.stages if stage["name"] not in self.finished), None)

    @property
    def done(self) -> bool:
        return bool(self.stages) and self.current is None

    @property
    def place(self) -> int:
        """Which of the stages is the current one, from 1."""
        names = [stage["name"] for stage in self.stages]
        return len(names) if self.current is None else names.index(self.current["name"]) + 1

    @property
    def rows(self) -> Sequence[Row]:
        """The steps of the current stage."""
        return [] if self.current is None else self.metrics.get(str(self.current["name"]), [])

    def silent_for(self) -> float:
        """Seconds since anything was written."""
        return max(0.0, time() - self.changed) if self.changed else 0.0


class Follower:
    """A run's folder, looked at again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen = Seen()
        self._metrics = Tail(folder / "metrics.jsonl")
        self._samples = Tail(folder / "samples.jsonl", _TAIL)
        self._events = Tail(folder / "events.jsonl")
        self._declared = 0

    def look(self) -> bool:
        """Takes in what is new. Was there anything?"""
        before = (self.seen.finished, self.seen.name)
        self._read_recipe()
        self.seen.finished = frozenset(str(stage["name"]) for number, stage in enumerate(self.seen.stages, start=1)
                                       if self._result(number, stage).is_file())  # fmt: skip
        rows, anew = self._metrics.new()
        if anew:
            self.seen.metrics.clear()
        for row in rows:
            if isinstance(row.get("step"), int):
                self.seen.metrics.setdefault(str(row.get("stage")), []).append(row)
        samples, cut = self._samples.new()
        if cut:
            self.seen.samples.clear()
        self.seen.samples.extend(samples)
        events, cut_back = self._events.new()
        if cut_back:
            self.seen.events.clear()
        self.seen.events.extend(events)
        self.seen.changed = max(map(_changed, (self.folder / name for name in _LOGS)))
        return bool(rows or anew or samples or events or before != (self.seen.finished, self.seen.name))

    def _read_recipe(self) -> None:
        path = self.folder / "recipe.json"
        changed = int(_changed(path) * 1e6)
        if changed == self._declared:
            return
        self._declared = changed
        recipe = (read_json(path) or {}).get("recipe") or {}
        self.seen.name = str(recipe.get("name") or self.folder.name)
        self.seen.stages = [
            {"name": str(stage.get("name")), "type": str(stage.get("type")), "steps": stage.get("steps")}
            for stage in recipe.get("stage", ())
        ]

    def _result(self, number: int, stage: Mapping[str, Any]) -> Path:
        return self.folder / "stages" / f"{number:02d}-{stage['name']}" / "result.json"


_LOGS = ("metrics.jsonl", "samples.jsonl", "events.jsonl")


def warning(event: Mapping[str, Any]) -> str:
    """A line of `events.jsonl` with its place, in a sentence."""
    known = {"guard", "action", "why"} <= event.keys()
    words = event_in_words(event) if known else json.dumps(dict(event), ensure_ascii=False)
    return f"{event.get('stage')}, step {event.get('step')}: {words}"


def _changed(path: Path) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _row(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
