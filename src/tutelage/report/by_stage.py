"""What each stage of a life has brought: every model that was measured, by all that it was measured on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tutelage.config import BASE, LEAVES
from tutelage.evaluation import Summary
from tutelage.evaluation.words import bits_in_words
from tutelage.report.read import Run, StageRecord
from tutelage.report.story import EvaluationTable


@dataclass(frozen=True, slots=True)
class StageScores:
    """A model, by the stage that left it, and its scores in words by the names of the columns."""

    model: str
    scores: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Models in the order of their stages, and what some of them were measured on."""

    columns: Sequence[str]
    rows: Sequence[StageScores]


def scores_by_stage(run: Run, tables: Sequence[EvaluationTable]) -> ScoreTable | None:
    """The scores of every model that was measured; None where that is no more than the evaluations show by themselves.

    Two measurements of the same name, in the same recipe, are told apart by how was asked. Of several of one model by
    the same name the last counts.
    """
    found: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}
    for stage, column, words in (*_measured(run), *_evaluated(tables)):
        found.setdefault(_model_of(stage, run), {})[column] = words
        columns[column] = None
    if len(columns) < 2 or len(found) < 2:
        return None
    order = [BASE, *(stage.name for stage in run.stages)]
    rows = [StageScores(model, found[model]) for model in sorted(found, key=_place_in(order))]
    return ScoreTable(list(columns), rows)


def _evaluated(tables: Sequence[EvaluationTable]) -> Iterator[tuple[StageRecord, str, str]]:
    names = [name for table in tables for name in table.rows[0].parts or (table.environment,)]
    for table in tables:
        for row in table.rows:
            for name, words in (row.parts or {table.environment: row.score}).items():
                column = name if names.count(name) == 1 else f"{name} ({table.asked}, {table.decoding})"
                yield row.stage, column, words


def _measured(run: Run) -> Iterator[tuple[StageRecord, str, str]]:
    """What held-out texts cost the models that were pre-trained, of those that read the same ones as the first."""
    measured = [stage for stage in run.stages if (stage.result or {}).get("bits_per_byte") is not None]
    tests = [json.dumps(stage.table.get("test"), sort_keys=True) for stage in measured]
    for stage, test in zip(measured, tests, strict=True):
        if test == tests[0]:
            yield stage, "held-out texts", bits_in_words(Summary.of((stage.result or {})["bits_per_byte"]))


def _model_of(measured: StageRecord, run: Run) -> str:
    """The stage whose policy a stage measured; a stage that leaves one has measured its own."""
    if LEAVES.get(measured.kind) == "policy":
        return measured.name
    if measured.table.get("start"):
        return str(measured.table["start"])
    before = [stage.name for stage in run.stages[: measured.number - 1] if LEAVES.get(stage.kind) == "policy"]
    return before[-1] if before else BASE


def _place_in(order: Sequence[str]) -> Callable[[str], int]:
    return lambda name: order.index(name) if name in order else -1  # a model of the recipe's that no stage made
