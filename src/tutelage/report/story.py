"""What a run's evaluations say, in tables and in one sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tutelage.errors import FailedSamplesError
from tutelage.evaluation import Comparison, Summary, compare, corrected, is_binary, summarise
from tutelage.evaluation.words import bits_in_words, comparison_in_words, missed_in_words, score_name, summary_in_words
from tutelage.report.read import Run, StageRecord

_SAME = ("environment", "split", "opponent", "sampling", "rewards")
"""What two evaluation stages must share to be comparable: the questions, the way of answering, what it is worth."""


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One evaluation, beside the first one of its table."""

    stage: StageRecord
    summary: Summary
    change: Comparison | None  # to the table's first; None for the first itself
    share: bool

    @property
    def score(self) -> str:
        return summary_in_words(self.summary, self.share)

    @property
    def change_in_words(self) -> str:
        return comparison_in_words(self.change, self.share) if self.change else ""

    @property
    def numbers(self) -> dict[str, Any]:
        """What the stage itself wrote about its answers: length, truncated."""
        return (self.stage.result or {}).get("summary", {})

    @property
    def seen(self) -> Mapping[str, int] | None:
        """How many of its questions stand in what was learned from before it; None where nothing was."""
        return (self.stage.result or {}).get("contamination")

    @property
    def parts(self) -> dict[str, str]:
        """The score of each part of a mixture."""
        found = (self.stage.result or {}).get("parts", {})
        return {part: summary_in_words(Summary.of(numbers)) for part, numbers in found.items()}

    @property
    def components(self) -> dict[str, str]:
        """What the score is made of, and what else was measured; with intervals, where the stage wrote some."""
        result = self.stage.result or {}
        found = {name: f"{value:.3f}" for name, value in result.get("components", {}).items()}
        measured = {name: told for name, told in result.get("metrics", {}).items() if name in found or "@" in name}
        return found | {name: summary_in_words(Summary.of(told)) for name, told in measured.items()}


@dataclass(frozen=True, slots=True)
class EvaluationTable:
    """The evaluations of one run that asked the same questions in the same way."""

    environment: str
    asked: str  # "held-out questions", or "games against the random player"
    decoding: str
    score_name: str
    rows: Sequence[EvaluationRow]

    @property
    def scale(self) -> tuple[float, float]:
        """Where the drawing of the intervals begins and ends: 0 and 1 for shares."""
        if self.rows[0].share:
            return 0.0, 1.0
        ends = [end for row in self.rows for end in (row.summary.low, row.summary.high, row.summary.mean)]
        known = [end for end in ends if end is not None]
        low, high = min(known), max(known)
        return (low, high) if high > low else (low - 0.5, high + 0.5)

    def per_cent(self, value: float) -> float:
        """A score's place in the drawing."""
        low, high = self.scale
        return 100 * (value - low) / (high - low)


def evaluation_tables(run: Run) -> list[EvaluationTable]:
    """The finished evaluations, comparable ones together, in the order of the recipe.

    The changes of all tables are corrected together: of a page where nothing changed, 1 in 20 at most says something
    did.
    """
    groups: dict[str, list[StageRecord]] = {}
    for stage in run.stages:
        if stage.scores:
            alike = json.dumps([stage.table.get(key) for key in _SAME], sort_keys=True)
            groups.setdefault(alike, []).append(stage)
    tables = [_evaluation_table(stages) for stages in groups.values()]
    return _corrected([table for table in tables if table.rows])


def _corrected(tables: Sequence[EvaluationTable]) -> list[EvaluationTable]:
    changes = iter(corrected([row.change for table in tables for row in table.rows]))
    return [replace(table, rows=[replace(row, change=next(changes)) for row in table.rows]) for table in tables]


def returns_in_words(run: Run) -> str | None:
    """What each policy earned that was played, in a sentence; None where none was."""
    played = [(stage.name, stage.result["scores"]) for stage in run.stages if stage.kind == "play" and stage.result]
    told = [f"{name} {summary_in_words(summarise(scores))}" for name, scores in played]
    return f"Mean return: {', '.join(told)}." if told else None


def held_out_in_words(run: Run) -> str | None:
    """What held-out texts cost each model that was pre-trained, in a sentence; None where none was measured."""
    measured = [(stage.name, (stage.result or {}).get("bits_per_byte")) for stage in run.stages]
    told = [f"{name} {bits_in_words(Summary.of(found))}" for name, found in measured if found is not None]
    return f"Held-out texts: {', '.join(told)}." if told else None


def headline(tables: Sequence[EvaluationTable]) -> str:
    """The outcome in a sentence that does not claim more than the test allows: of what was asked last, the change."""
    for table in sorted(tables, key=lambda table: -table.rows[-1].stage.number):
        last = table.rows[-1]
        if last.change is not None:
            return _change_sentence(table, last, last.change)
    if not tables:
        return "No evaluation is finished yet."
    table = tables[0]
    row = table.rows[0]
    return f"{_subject(table, row.summary.n)}: {row.score}."


def _change_sentence(table: EvaluationTable, last: EvaluationRow, change: Comparison) -> str:
    first = table.rows[0]
    subject, told = _subject(table, change.n), last.change_in_words
    if change.measurable:
        verb = "rose" if change.difference > 0 else "fell"
        return f"{subject} {verb} from {first.score} to {last.score}: {told}."
    missed = missed_in_words(change, last.share)
    return f"{subject} went from {first.score} to {last.score}. No measurable change: {told}; {missed}."


def _subject(table: EvaluationTable, n: int) -> str:
    asked = table.asked if n != 1 else table.asked.replace("questions", "question").replace("games", "game")
    return f"{table.score_name.capitalize()} on {n:,} {asked}"


def _evaluation_table(stages: Sequence[StageRecord]) -> EvaluationTable:
    summaries = [(stage, _summary(stage)) for stage in stages]
    scored = [(stage, summary) for stage, summary in summaries if summary is not None]
    rows: list[EvaluationRow] = []
    for stage, summary in scored:
        unit = all(0 <= value <= 1 for given in stage.scores.values() for value in given if value is not None)
        share = unit and stage.table.get("opponent") is None
        change = _comparison(scored[0][0], stage) if rows else None
        rows.append(EvaluationRow(stage, summary, change, share))
    table = stages[0].table
    played = table.get("opponent") is not None
    binary = all(is_binary(stage.scores) for stage, _ in scored)
    return EvaluationTable(
        environment=str(table.get("environment", "")),
        asked=_asked(table),
        decoding=_decoding(table),
        score_name="mean payoff" if played else score_name(scored[0][0].scores) if binary and scored else "mean score",
        rows=rows,
    )


def _asked(table: Mapping[str, Any]) -> str:
    if table.get("opponent") is not None:
        return f"games against the {table['opponent']} player"
    return "held-out questions" if table.get("split") == "test" else "training questions"


def _summary(stage: StageRecord) -> Summary | None:
    try:
        return summarise(stage.scores)
    except FailedSamplesError:
        return None


def _comparison(first: StageRecord, later: StageRecord) -> Comparison | None:
    try:
        return compare(first.scores, later.scores)
    except ValueError:  # no question was scored in both
        return None


def _decoding(table: dict[str, Any]) -> str:
    if table.get("type") == "predict":
        return "the likeliest next token"
    temperature = (table.get("sampling") or {}).get("temperature", 0.0)
    how = "greedy" if temperature == 0 else f"temperature {temperature:g}"
    samples = table.get("samples", 1)
    return how if samples == 1 else f"{how}, {samples} samples a question"
