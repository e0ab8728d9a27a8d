"""A run's stages one after the other: when, how long, what each read and what it left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.config import LEAVES
from tutelage.report.read import Run, StageRecord, read_json


@dataclass(frozen=True, slots=True)
class Artefact:
    """What went into a stage or came out of it, by its name and the beginning of its digest."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class Line:
    """One stage in the timeline. `begins` and `takes` are in per cent of the run's working time."""

    stage: StageRecord
    begins: float
    takes: float
    reads: Sequence[Artefact]
    leaves: Artefact | None  # its kind; None: the stage is for people only, or unknown
    path: str  # in the run's folder, where it is; "" where nothing was left yet


def timeline(run: Run) -> list[Line]:
    """The stages in their order, each beginning where those before it ended: pauses of a run that was resumed are not
    in it.
    """
    whole = sum(stage.seconds or 0.0 for stage in run.stages) or 1.0
    lines: list[Line] = []
    begins = 0.0
    for stage in run.stages:
        takes = 100.0 * (stage.seconds or 0.0) / whole
        lines.append(_line(run, stage, begins, takes))
        begins += takes
    return lines


def _line(run: Run, stage: StageRecord, begins: float, takes: float) -> Line:
    folder = run.folder / "stages" / f"{stage.number:02d}-{stage.name}"
    manifest = read_json(folder / "manifest.json") or {}
    begun = read_json(folder / "begin.json") or {}
    inputs = (manifest.get("key") or begun.get("key") or {}).get("inputs") or {}
    kind = LEAVES.get(stage.kind)
    leaves = None
    if kind is not None and kind != "report":
        leaves = Artefact(kind, _short(manifest.get("digest")))
    return Line(stage, begins, takes, [Artefact(name, _short(inputs[name])) for name in inputs], leaves, _path(stage))


def _path(stage: StageRecord) -> str:
    result: Mapping[str, Any] = stage.result or {}
    found = (result.get(key) for key in ("saved", "reward_model", "judged", "conversations", "written"))
    return next((str(path) for path in found if path), "")


def _short(digest: object) -> str:
    return str(digest)[:8] if digest else ""
