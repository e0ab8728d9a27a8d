"""Which model a stage will begin with, as far as that can be had before anything ran: its shape, if not its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tutelage.config import BASE, CompareStage, ModelStage, PretrainStage, PruneStage, Recipe, Stage
from tutelage.models.prune import prune
from tutelage.stages import Plan, PretrainPlan, begin_from_nothing


class Lineage:
    """The models of a recipe's stages. What a stage is to make of nothing, or to prune, is made in a scratch folder."""

    def __init__(
        self,
        recipe: Recipe,
        plans: Sequence[Plan],
        folders: Mapping[str, Path],
        scratch: Path,
        note: Callable[[str], None],
    ) -> None:
        self.recipe, self.plans, self.folders = recipe, plans, folders
        self._scratch, self._note = scratch, note
        self._made: dict[str, Path] = {}

    def model_of(self, stage: Stage) -> Path | None:
        """A folder with a model of the shape that the stage begins with; None: it has none, or it is not here."""
        if stage.name not in self._made:
            folder = self._found(stage)
            if folder is None:
                return None
            self._made[stage.name] = folder
        return self._made[stage.name]

    def untouched(self, stage: Stage) -> bool:
        """Does it begin with a model that is here, as it is: are its weights known already?"""
        begins = self._begins(stage)
        if begins is None:
            return self.recipe.model is not None
        return begins == BASE or begins in self.recipe.models

    def _begins(self, stage: Stage) -> str | None:
        """The name of what it begins with; None: the recipe's model, or nothing."""
        if isinstance(stage, CompareStage):
            return stage.contestants[0].model
        return self.recipe.begins(stage)

    def _found(self, stage: Stage) -> Path | None:
        begins = self._begins(stage)
        if begins is not None:
            return self._of_name(begins)
        if not isinstance(stage, ModelStage):
            return None
        if self.recipe.model is not None:
            return self.folders.get(BASE)
        plan = next(plan for plan in self.plans if plan.stage.name == stage.name)
        if not (isinstance(plan, PretrainPlan) and isinstance(stage, PretrainStage)):
            return None
        return begin_from_nothing(plan, self.recipe, self._folder(stage), self._note)

    def _of_name(self, name: str) -> Path | None:
        """What a stage leaves, or a model that is here."""
        made = next((stage for stage in self.recipe.stage if stage.name == name), None)
        if made is None:
            return self.folders.get(name)
        folder = self.model_of(made)
        if not isinstance(made, PruneStage) or folder is None:
            return folder
        pruned = self._folder(made) / "pruned"
        if not pruned.is_dir():
            prune(folder, made.layers, pruned)
        return pruned

    def _folder(self, stage: Stage) -> Path:
        folder = self._scratch / stage.name
        folder.mkdir(exist_ok=True)
        return folder
