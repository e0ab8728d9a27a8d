"""What a run is. Imports no torch."""

from tutelage.config.artefacts import LEAVES, newest, reads, references
from tutelage.config.gates import condition
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
    LabelStage,
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
    "LEAVES",
    "Checkpoints",
    "CompareStage",
    "Contestant",
    "ControlStage",
    "Correction",
    "EvaluateStage",
    "LabelStage",
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
    "condition",
    "find_recipe",
    "first_comment",
    "load_object",
    "nearest",
    "newest",
    "read_recipe",
    "reads",
    "references",
    "shipped_recipes",
    "validate",
]
