"""`tutelage evaluate`: one evaluate stage for each model, on the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table as RichTable

from tutelage.config import Recipe, find_recipe, read_recipe, validate
from tutelage.config.recipe import apply_override
from tutelage.errors import ConfigError
from tutelage.evaluation import compare
from tutelage.pipelines import read_result, run_recipe
from tutelage.stages import Result
from tutelage.training import Progress


def evaluate_models(
    models: Sequence[str],
    environment: str,
    overrides: Sequence[str],
    stage: dict[str, Any],
    seed: int,
    out: Path,
    progress: Progress,
) -> list[Result]:
    """Runs the stage for every model, each in a folder of its own under `out`."""
    table = _environment(environment)
    for override in overrides:
        apply_override(table, override)
    results: list[Result] = []
    for number, model in enumerate(models, start=1):
        recipe = validate(
            Recipe,
            {
                "name": "evaluate",
                "model": model,
                "seed": seed,
                "environments": {"asked": table},
                "stage": [{"type": "evaluate", "name": "evaluate", "environment": "asked", **stage}],
            },
            "evaluate",
        )
        folder = out / f"{number:02d}-{Path(model).name}"
        run_recipe(recipe, folder, progress)
        result = read_result(folder / "stages" / "01-evaluate")
        assert result is not None, "a stage that ends has a result"
        results.append(result)
    return results


def score_table(models: Sequence[str], results: Sequence[Result]) -> RichTable:
    """Scores with intervals, and each model's change against the first on the questions both answered."""
    table = RichTable("model", "score", "95 % interval", "questions", "change", "p")
    for number, (model, result) in enumerate(zip(models, results, strict=True)):
        score = result["summary"]["score"]
        interval = "" if score["low"] is None else f"{score['low']:.3f} to {score['high']:.3f}"
        change = p_value = ""
        if number:
            paired = compare(results[0]["scores"], result["scores"])
            change, p_value = f"{paired.difference:+.3f}", f"{paired.p_value:.2g} ({paired.test})"
        table.add_row(model, f"{score['mean']:.3f}", interval, str(score["n"]), change, p_value)
    return table


def _environment(name: str) -> dict[str, Any]:
    """`RECIPE:NAME` or a built-in type."""
    recipe_name, colon, environment = name.rpartition(":")
    if not colon:
        return {"type": name}
    recipe = read_recipe(find_recipe(recipe_name))
    if environment not in recipe.environments:
        raise ConfigError(f"{recipe_name}: has no environment '{environment}', but {sorted(recipe.environments)}")
    return dict(recipe.environments[environment])
