"""What was judged: comparisons of models, agreement of reward models with people, and over-optimisation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tutelage.evaluation import Summary
from tutelage.evaluation.words import compared_in_words, signed, summary_in_words
from tutelage.report.charts import against
from tutelage.report.read import Run, StageRecord


@dataclass(frozen=True, slots=True)
class Contestant:
    """One line of a comparison: by each judge its score, and how often it beats the first contestant."""

    name: str
    scores: Sequence[str]
    wins: Sequence[str]
    beats: Sequence[str]  # each contestant, by the last judge
    kl: str
    length: str


@dataclass(frozen=True, slots=True)
class ComparisonTable:
    """The models of one `compare` stage beside each other."""

    stage: StageRecord
    against: str
    judges: Sequence[str]
    contestants: Sequence[Contestant]


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """How far a stage's model agrees with the judgements that it has not seen."""

    stage: str
    accuracy: str
    people: str
    by_margin: Sequence[str]
    calibration_error: str
    length: Sequence[str]  # correlation with it of scores and of judgements; accuracy where longer, shorter is better
    pairs: int


def comparison_tables(run: Run) -> list[ComparisonTable]:
    """The finished comparisons, in the order of the recipe."""
    return [_comparison(stage, stage.result) for stage in run.stages if stage.kind == "compare" and stage.result]


def agreement_rows(run: Run) -> list[AgreementRow]:
    """One row for each stage that was asked about held-out judgements."""
    found: list[AgreementRow] = []
    for stage in run.stages:
        agreement = (stage.result or {}).get("agreement")
        if agreement and agreement["pairs"]:
            found.append(
                AgreementRow(
                    stage.name,
                    _words(agreement["accuracy"]),
                    f"{100 * agreement['people']:.0f} %" if "people" in agreement else "",
                    [_words(part) for part in agreement["by_margin"]],
                    f"{agreement['calibration_error']:.3f}",
                    _length(agreement.get("length")),
                    agreement["pairs"],
                )
            )
    return found


@dataclass(frozen=True, slots=True)
class StepRow:
    """How far a process reward model agrees with the labels of steps that it has not seen."""

    stage: str
    accuracy: str
    found: str
    clean: str
    f1: str
    calibration_error: str
    steps: int
    answers: int


def step_rows(run: Run) -> list[StepRow]:
    """One row for each stage that was asked about held-out steps."""
    found: list[StepRow] = []
    for stage in run.stages:
        if told := (stage.result or {}).get("step_agreement"):
            first = told["first_error"]
            found.append(
                StepRow(
                    stage.name,
                    _words(told["accuracy"]),
                    _words(first["found"]) if first["found"] else "",
                    _words(first["clean"]) if first["clean"] else "",
                    f"{first['f1']:.2f}" if first["f1"] is not None else "",
                    f"{told['calibration_error']:.3f}",
                    told["steps"],
                    told["answers"],
                )
            )
    return found


def over_optimisation(run: Run) -> list[tuple[StageRecord, Markup]]:
    """For each stage with several rewards and an anchor: what each reward says, over the distance that was gone.

    The distance is the square root of the KL of a whole answer, in which gold rewards are known to rise and fall (Gao
    et al., 2210.10760): its mean a token times the mean length.
    """
    found: list[tuple[StageRecord, Markup]] = []
    for stage in run.stages:
        rows = [row for row in stage.rows if isinstance(row.get("kl"), (int, float))]
        names = [name for name in (rows[0] if rows else {}) if name.startswith("reward/")]
        if len(names) > 1:
            distance = [math.sqrt(max(0.0, row["kl"] * row["length"])) for row in rows]
            curves = {name.removeprefix("reward/"): [row.get(name, math.nan) for row in rows] for name in names}
            title = f"rewards of {stage.name} over the square root of the KL to its anchor"
            found.append((stage, Markup(against(title, distance, curves))))
    return found


def headline_of_comparisons(tables: Sequence[ComparisonTable]) -> str | None:
    """The last comparison in a sentence, by its last judge; None where there is none."""
    sentences = [list(compared_in_words(table.stage.result or {})) for table in tables]
    return f"{sentences[-1][-1]}." if sentences and sentences[-1] else None


def headline_of_agreement(rows: Sequence[AgreementRow]) -> str | None:
    """How far each model agrees with people, in a sentence; None where none was asked."""
    told = [f"{row.stage} {row.accuracy} of {row.pairs:,} pairs" for row in rows]
    return f"In the order of people's judgements, held out: {', '.join(told)}." if told else None


def headline_of_steps(rows: Sequence[StepRow]) -> str | None:
    """How far each process reward model agrees with labels of steps, in a sentence; None where none was asked."""
    told = [f"{row.stage} {row.accuracy} of {row.steps:,} steps" for row in rows]
    return f"Judged as labelled, held out: {', '.join(told)}." if told else None


def _comparison(stage: StageRecord, result: Mapping[str, Any]) -> ComparisonTable:
    found: Mapping[str, Any] = result["contestants"]
    judges, first = list(next(iter(found.values()))["scores"]), str(result["against"])
    contestants = [
        Contestant(
            name,
            [_words(one["scores"][judge]) for judge in judges],
            [_words(one["beats"][first][judge]) if first in one["beats"] else "" for judge in judges],
            [_words(one["beats"][other][judges[-1]]) if other in one["beats"] else "" for other in found],
            f"{one['kl']:.2f}" if "kl" in one else "",
            f"{one['length']:.1f}",
        )
        for name, one in found.items()
    ]
    return ComparisonTable(stage, first, judges, contestants)


def _length(found: Mapping[str, Any] | None) -> list[str]:
    """How far length decides, in words; empty ones for a run of before it was asked."""
    if found is None:
        return [""] * 4
    correlations = ("none" if found[name] is None else signed(found[name], 2) for name in ("scores", "judged"))
    parts = (found[name] for name in ("longer_is_better", "shorter_is_better"))
    return [*correlations, *(_words(part) if part["pairs"] else "no pairs" for part in parts)]


def _words(numbers: Mapping[str, Any]) -> str:
    return summary_in_words(Summary.of(numbers))
