"""The card of a model: who made it, from what, how, and what it scored. It lies beside the weights as README.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from tutelage.config import BASE, Recipe, Stage

_HOW = {
    "pretrain": "Next-token prediction on texts.",
    "sft": "Supervised fine-tuning.",
    "reward-model": "A reward model: one score for an answer, opened by `AutoModelForSequenceClassification`.",
    "preference": "Preference optimisation on judged answers.",
    "prune": "Fewer of the layers.",
    "rl": "Reinforcement learning on its own samples.",
}


def card(
    recipe: Recipe,
    stage: Stage,
    inputs: Mapping[str, str],
    found: Mapping[str, float],
    reports: Sequence[tuple[str, Mapping[str, float]]],
) -> str:
    """The card as Markdown, with the hub's front matter.

    Args:
        inputs: what the stage read, by name, with digests.
        found: the stage's own figures.
        reports: of each later stage that judged the model: its name and its figures.
    """
    base = {BASE: recipe.model, **recipe.models}.get(recipe.root(stage) or "")
    front = ["---", "library_name: transformers", *([f"base_model: {base}"] if base else [])]
    lines = [*front, f"tags: [tutelage, {stage.type}]", "---", "", f"# {recipe.name}: {stage.name}", ""]
    lines += [
        f"{_HOW.get(stage.type, '')} Stage `{stage.name}` of the run `{recipe.name}`, seed {recipe.seed}, made by"
    ]
    lines += [f"Tutelage {version('tutelage')}.", "", "## From", ""]
    lines += [f"- `{name}`, digest {digest[:16]}" for name, digest in inputs.items()] or ["- nothing"]
    scored = [(stage.name, found), *reports]
    if any(figures for _, figures in scored):
        lines += ["", "## Scores", "", "| stage | figure | value |", "|---|---|---|"]
        lines += [
            f"| {name} | {figure} | {value:.4g} |" for name, figures in scored for figure, value in figures.items()
        ]
    declared = json.dumps(stage.model_dump(mode="json", exclude_defaults=True), indent=2, ensure_ascii=False)
    return "\n".join([*lines, "", "## How", "", "```json", declared, "```", ""])
