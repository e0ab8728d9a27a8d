"""What a run is. Imports no torch."""

from tutelage.config.part import Part, Table, build, load_object, nearest, validate
from tutelage.config.recipe import ControlStage, EvaluateStage, PlayStage, Recipe, RlStage, SftStage, Stage, read_recipe
from tutelage.config.settings import Checkpoints, Correction, Optimizer, Reference, Sampling, Share, TrustRegion
from tutelage.config.shipped import find_recipe, first_comment, shipped_recipes

__all__ = [
    "Checkpoints",
    "ControlStage",
    "Correction",
    "EvaluateStage",
    "Optimizer",
    "Part",
    "PlayStage",
    "Recipe",
    "Reference",
    "RlStage",
    "Sampling",
    "SftStage",
    "Share",
    "Stage",
    "Table",
    "TrustRegion",
    "build",
    "find_recipe",
    "first_comment",
    "load_object",
    "nearest",
    "read_recipe",
    "shipped_recipes",
    "validate",
]
