"""A recipe as a run writes it down, with every default in it, is the same recipe: else no run could be resumed."""

from __future__ import annotations

import json

import pytest

from tutelage.config import Recipe, read_recipe, shipped_recipes, validate

TEXTS = {"type": "text", "path": "books"}


def resolved(recipe: Recipe) -> Recipe:
    return validate(Recipe, json.loads(json.dumps(recipe.model_dump(mode="json"))), "recipe.json")


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_a_shipped_recipe_is_the_same_when_it_was_written_down(name: str) -> None:
    recipe = read_recipe(shipped_recipes()[name])
    assert resolved(recipe) == recipe


@pytest.mark.parametrize(
    "stage",
    [
        {"type": "positions", "name": "look", "source": TEXTS, "test": TEXTS},
        {"type": "positions", "name": "look", "source": TEXTS, "test_share": 0.2},
        {"type": "pretrain", "name": "read", "source": TEXTS, "tokenizer": {"type": "bytes"}},
        {"type": "pretrain", "name": "read", "source": TEXTS, "tokenizer": {"vocabulary": 300}},
    ],
)
def test_what_refuses_a_key_does_not_refuse_its_default(stage: dict[str, object]) -> None:
    model = None if stage["type"] == "pretrain" else "tiny"
    recipe = validate(Recipe, {"name": "mine", "model": model, "stage": [stage]}, "mine.toml")
    assert resolved(recipe) == recipe
