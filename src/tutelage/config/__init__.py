"""What a run is. Imports no torch."""

from tutelage.config.part import Part, Table, build, load_object, nearest, validate
from tutelage.config.recipe import BASE, Recipe, read_recipe
from tutelage.config.settings import (
    Checkpoints,
    Correction,
    Lora,
    Optimizer,
    Pretraining,
    Reference,
    Sampling,
    Share,
    TrustRegion,
)
from tutelage.config.shipped import find_recipe, first_comment, shipped_recipes
from tutelage.config.stages import (
    CompareStage,
    Contestant,
    ControlStage,
    EvaluateStage,
    ModelStage,
    PlayStage,
    PreferenceStage,
    RewardModelStage,
    RlStage,
    SftStage,
    Stage,
)

__all__ = [
    "BASE",
    "Checkpoints",
    "CompareStage",
    "Contestant",
    "ControlStage",
    "Correction",
    "EvaluateStage",
    "Lora",
    "ModelStage",
    "Optimizer",
    "Part",
    "PlayStage",
    "PreferenceStage",
    "Pretraining",
    "Recipe",
    "Reference",
    "RewardModelStage",
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
