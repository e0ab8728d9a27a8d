"""`tutelage evaluate`: models on the same questions, each measure with its interval, each change with its test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table as RichTable

from tutelage.config import BASE, Suite, find_recipe, model_labels, read_recipe, validate
from tutelage.config.recipe import apply_override
from tutelage.errors import ConfigError
from tutelage.evaluation import Comparison, Scores, Summary, compare, compare_ratio, corrected
from tutelage.evaluation.words import (
    change_in_words,
    compared_in_words,
    missed_in_words,
    p_in_words,
    summary_in_words,
)
from tutelage.pipelines import read_result, run_recipe
from tutelage.stages import Result
from tutelage.training import Progress

Results = Mapping[str, Sequence[Result]]
"""Of each evaluation what it found, model by model; of one that compares models, once."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measure of one model, beside that of the first."""

    evaluation: str
    measure: str
    model: str
    value: str
    n: int
    share: bool
    change: Comparison | None


def evaluate_models(suite: Suite, models: Sequence[str], seed: int, out: Path, progress: Progress) -> Results:
    """Runs the suite for every model, as one run in one folder."""
    recipe = suite.of_models(models, seed)
    run_recipe(recipe, out, progress)
    labels = model_labels(models)
    found: dict[str, list[Result]] = {}
    for number, stage in enumerate(recipe.stage, start=1):
        result = read_result(out / "stages" / f"{number:02d}-{stage.name}")
        assert result is not None, "a stage that ends has a result"
        asked = getattr(stage, "start", None)  # by one of the models; None: it compares them
        label = "" if asked is None else labels[0] if asked == BASE else asked
        found.setdefault(stage.name.removesuffix(f"-of-{label}"), []).append(result)
    return found


def single(environment: str, overrides: Sequence[str], stage: Mapping[str, Any]) -> Suite:
    """A suite of one evaluation: of a recipe's environment, RECIPE:NAME, or of a built-in type."""
    table = _environment(environment)
    for override in overrides:
        apply_override(table, override)
    one = {"type": "evaluate", "name": "evaluate", "environment": "asked", **stage}
    return validate(Suite, {"name": "evaluate", "environments": {"asked": table}, "stage": [one]}, "evaluate")


def score_rows(models: Sequence[str], results: Results) -> list[Row]:
    """Every measure of every model, with its change since the first, corrected for the number of changes."""
    rows = [row for name, found in results.items() if len(found) == len(models) for row in _rows(name, models, found)]
    changes = corrected([row.change for row in rows])
    return [replace(row, change=change) for row, change in zip(rows, changes, strict=True)]


def score_table(models: Sequence[str], rows: Sequence[Row]) -> RichTable:
    """The rows for the terminal."""
    tests = sum(row.change is not None for row in rows)
    holm = f" (Holm, {tests} tests)" if tests > 1 else ""
    headings = ["evaluation", "measure", "model", "value (95 %)", "n"]
    table = RichTable(*headings, *([f"change since {Path(models[0]).name}", f"p{holm}"] if len(models) > 1 else []))
    for row in rows:
        change = [] if len(models) < 2 else ["", ""]
        if row.change is not None:
            change = [change_in_words(row.change, row.share), f"{p_in_words(row.change.p_value)}, {row.change.test}"]
        table.add_row(row.evaluation, row.measure, row.model, row.value, f"{row.n:,}", *change)
    return table


def remarks(rows: Sequence[Row], results: Results, wanted: float | None) -> Iterator[str]:
    """What the table leaves to be said: what could not have been seen, and who beats whom.

    Args:
        wanted: the least change worth knowing, of a share; None: what is not measurable is told as it is.
    """
    for row in rows:
        change = row.change
        if change is None or not (row.share or wanted is None):
            continue
        missed = change.detectable > wanted if wanted is not None else not change.measurable
        if missed and row.measure in ("score", "bits a byte", "accuracy"):
            yield f"{row.evaluation}, {row.model}: {missed_in_words(change, row.share, wanted)}."
    for name, found in results.items():
        if found[0]["type"] == "compare":
            yield from (f"{name}: {line}." for line in compared_in_words(found[0]))


def _rows(evaluation: str, models: Sequence[str], results: Sequence[Result]) -> Iterator[Row]:
    if results[0]["type"] == "perplexity":
        yield from _text_rows(evaluation, models, results)
        return
    for measure in _measures(results[0]):
        scores = [_scores(result, measure) for result in results]
        share = all(0 <= value <= 1 for one in scores for given in one.values() for value in given if value is not None)
        share = share and "opponent" not in results[0]
        for number, (model, result) in enumerate(zip(models, results, strict=True)):
            numbers = _numbers(result, measure)
            if numbers is not None:
                summary = Summary.of(numbers)
                change = _change(scores[0], scores[number]) if number else None
                yield Row(evaluation, measure, model, summary_in_words(summary, share), summary.n, share, change)
    for part in results[0].get("parts", {}):
        for model, result in zip(models, results, strict=True):
            if part in result["parts"]:
                summary = Summary.of(result["parts"][part])
                yield Row(evaluation, f"score of {part}", model, summary_in_words(summary), summary.n, True, None)


def _text_rows(evaluation: str, models: Sequence[str], results: Sequence[Result]) -> Iterator[Row]:
    first = results[0]["by_text"]
    for number, (model, result) in enumerate(zip(models, results, strict=True)):
        own = result["by_text"]
        under = np.array(own["bytes"])
        change = compare_ratio(np.array(first["bits"]), np.array(own["bits"]), under) if number else None
        summary = Summary.of(result["bits_per_byte"])
        yield Row(evaluation, "bits a byte", model, summary_in_words(summary, False), summary.n, False, change)
        for measure, share in (("perplexity", False), ("next_token_accuracy", True)):
            summary = Summary.of(result[measure])
            words = summary_in_words(summary, share)
            yield Row(evaluation, measure.replace("_", " "), model, words, summary.n, share, None)


def _measures(result: Result) -> list[str]:
    """The names of what a result has by question, its main figure first."""
    if result["type"] == "sycophancy":
        return list(result["by_question"])
    measured = result.get("by_question", {})
    components = [name for name in measured if "@" not in name]
    return ["score", *(name for name in measured if "@" in name or len(components) > 1)]


def _scores(result: Result, measure: str) -> Scores:
    return result["scores"] if measure == "score" else result.get("by_question", {}).get(measure, {})


def _numbers(result: Result, measure: str) -> Mapping[str, Any] | None:
    if result["type"] == "sycophancy":
        return result["accuracy"] if measure == "accuracy" else result["flipped"].get(measure)
    return result["summary"]["score"] if measure == "score" else result["metrics"].get(measure)


def _change(first: Scores, later: Scores) -> Comparison | None:
    try:
        return compare(first, later)
    except ValueError:  # no question was scored in both
        return None


def _environment(name: str) -> dict[str, Any]:
    """`RECIPE:NAME` or a built-in type."""
    recipe_name, colon, environment = name.rpartition(":")
    if not colon:
        return {"type": name}
    recipe = read_recipe(find_recipe(recipe_name))
    if environment not in recipe.environments:
        raise ConfigError(f"{recipe_name}: has no environment '{environment}', but {sorted(recipe.environments)}")
    return dict(recipe.environments[environment])
