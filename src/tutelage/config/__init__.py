"""What a run is. Imports no torch."""

from tutelage.config.part import Part, Table, build, load_object, nearest, validate
from tutelage.config.recipe import EvaluateStage, Recipe, RlStage, SftStage, Stage, read_recipe
from tutelage.config.settings import Checkpoints, Optimizer, Sampling
from tutelage.config.shipped import find_recipe, first_comment, shipped_recipes

__all__ = [
    "Checkpoints",
    "EvaluateStage",
    "Optimizer",
    "Part",
    "Recipe",
    "RlStage",
    "Sampling",
    "SftStage",
    "Stage",
    "Table",
    "build",
    "find_recipe",
    "first_comment",
    "load_object",
    "nearest",
    "read_recipe",
    "shipped_recipes",
    "validate",
]
