"""Several runs on one page: their curves over each other, and their final scores side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from tutelage.errors import RunFolderError
from tutelage.evaluation import compare
from tutelage.evaluation.words import change_in_words
from tutelage.report.charts import Band, bands, lines
from tutelage.report.page import by_importance, render, write_page
from tutelage.report.phases import frontier_of
from tutelage.report.read import Run, StageRecord, read_run
from tutelage.report.story import EvaluationRow, EvaluationTable, evaluation_tables
from tutelage.training.metrics import Meaning, meaning

_OWN = ("seed", "track")  # what two runs of one recipe may differ in
_UNTOLD = ("stage", "step", "seconds")
_FIRST = ("reward", "score", "loss", "accuracy", "bits_per_byte", "entropy", "kl", "length", "clipped", "mismatch")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Runs of one recipe, with one seed or several."""

    name: str
    runs: Sequence[Run]


@dataclass(frozen=True, slots=True)
class Overlaid:
    """One metric of one stage, of all recipes."""

    meaning: Meaning
    svg: Markup


@dataclass(frozen=True, slots=True)
class Stage:
    """The stages of one name in all the runs."""

    name: str
    first: Sequence[Overlaid]
    others: Sequence[Overlaid]
    frontier: Markup | None


@dataclass(frozen=True, slots=True)
class Final:
    """The last evaluation of one run among those of all runs that asked the same."""

    run: str
    seed: object
    row: EvaluationRow
    change: str  # to the first run, on the questions that both scored


@dataclass(frozen=True, slots=True)
class Finals:
    """Comparable last evaluations, and what each recipe's seeds come to."""

    table: EvaluationTable
    rows: Sequence[Final]
    seeds: Sequence[tuple[str, str]]


def build_overlay(folders: Sequence[Path], out: Path) -> Path:
    """Writes one page about several runs. Returns its path.

    Raises:
        RunFolderError: one of them is no run, or the page cannot be written.
    """
    return write_page(out, overlay_of([_read(folder) for folder in folders]))


def overlay_of(runs: Sequence[Run]) -> str:
    """The page about several runs."""
    recipes = recipes_of(runs)
    return render(
        "overlay.html",
        [],
        title=" · ".join(recipe.name for recipe in recipes),
        recipes=recipes,
        finals=finals_of(runs, recipes),
        stages=[stage for name in _stage_names(runs) if (stage := _stage(name, recipes)) is not None],
        name_of=name_of,
    )


def recipes_of(runs: Sequence[Run]) -> list[Recipe]:
    """The runs by recipe, in the order given. Runs that differ in their seed alone are one recipe's."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        alike = {name: value for name, value in run.recipe.items() if name not in _OWN}
        found.setdefault(json.dumps(alike, sort_keys=True), []).append(run)
    names = [str(some[0].recipe.get("name") or name_of(some[0])) for some in found.values()]
    return [
        Recipe(name if names.count(name) == 1 else f"{name} ({', '.join(name_of(run) for run in some)})", some)
        for name, some in zip(names, found.values(), strict=True)
    ]


def name_of(run: Run) -> str:
    return run.folder.resolve().name


def finals_of(runs: Sequence[Run], recipes: Sequence[Recipe]) -> list[Finals]:
    """The last evaluation of each run, beside those of the other runs that asked the same questions in the same way."""
    found: dict[tuple[str, str, str], list[tuple[Run, EvaluationTable]]] = {}
    for run in runs:
        for table in evaluation_tables(run):
            found.setdefault((table.environment, table.asked, table.decoding), []).append((run, table))
    return [_finals(some, recipes) for some in found.values()]


def _finals(tables: Sequence[tuple[Run, EvaluationTable]], recipes: Sequence[Recipe]) -> Finals:
    first = tables[0][1].rows[-1]
    rows = [
        Final(name_of(run), run.recipe.get("seed", ""), table.rows[-1], _change(first, table.rows[-1]))
        for run, table in tables
    ]
    means: list[tuple[str, str]] = []
    for recipe in recipes:
        own = [table.rows[-1].summary.mean for run, table in tables if run in recipe.runs]
        if len(own) > 1:
            share = tables[0][1].rows[-1].share
            low, middle, high = (_number(x, share) for x in (min(own), sum(own) / len(own), max(own)))
            means.append((recipe.name, f"{middle} on average over {len(own)} seeds, from {low} to {high}"))
    return Finals(tables[0][1], rows, means)


def _change(first: EvaluationRow, other: EvaluationRow) -> str:
    if other is first:
        return ""
    try:
        paired = compare(first.stage.scores, other.stage.scores)
    except ValueError:  # no question was scored in both
        return "no question in common"
    return change_in_words(paired, first.share)


def _number(value: float, share: bool) -> str:
    return f"{100 * value:.0f} %" if share else f"{value:.3g}"


def _stage_names(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(stage.name for run in runs for stage in run.stages if stage.rows))


def _stage(name: str, recipes: Sequence[Recipe]) -> Stage | None:
    """The curves of all stages of that name; None where only one run has it, so that nothing lies over another."""
    own = [[stage for run in recipe.runs for stage in run.stages if stage.name == name and stage.rows]
           for recipe in recipes]  # fmt: skip
    seen = dict.fromkeys(metric for some in own for stage in some for row in stage.rows for metric in row)
    first, others = by_importance([metric for metric in seen if metric not in _UNTOLD], _FIRST)
    drawn = {metric: _overlaid(name, metric, recipes, own) for metric in (*first, *others)}
    frontiers = {
        recipe.name: frontier_of(stage) for recipe, some in zip(recipes, own, strict=True) for stage in some[:1]
    }
    known = {recipe: points for recipe, points in frontiers.items() if points[0]}
    return Stage(
        name,
        [chart for metric in first if (chart := drawn[metric]) is not None],
        [chart for metric in others if (chart := drawn[metric]) is not None],
        Markup(lines(f"reward of {name} over the KL of an answer, nats", known, ordered=False)) if known else None,
    )


def _overlaid(
    name: str, metric: str, recipes: Sequence[Recipe], own: Sequence[Sequence[StageRecord]]
) -> Overlaid | None:
    curves = [band_of(recipe.name, metric, stages) for recipe, stages in zip(recipes, own, strict=True)]
    if not any(curves):
        return None
    about = meaning(metric)
    return Overlaid(about, Markup(bands(f"{about.title} over the steps of {name}, by recipe", curves)))


def band_of(recipe: str, metric: str, stages: Sequence[StageRecord]) -> Band | None:
    """The mean over the seeds at each step that all of them have, between the lowest and the highest."""
    columns: list[Mapping[int, float]] = [
        {row["step"]: float(row[metric]) for row in stage.rows if isinstance(row.get(metric), (int, float))}
        for stage in stages
    ]
    columns = [column for column in columns if column]
    if not columns:
        return None
    steps = sorted(set.intersection(*(set(column) for column in columns)))
    values = [[column[step] for column in columns] for step in steps]
    if not steps:
        return None
    return Band(
        recipe, steps, [sum(some) / len(some) for some in values], [min(x) for x in values], [max(x) for x in values]
    )


def _read(folder: Path) -> Run:
    if not (folder / "recipe.json").is_file():
        raise RunFolderError(f"{folder}: no run lies here (no recipe.json); name the folder that --out named")
    return read_run(folder)
