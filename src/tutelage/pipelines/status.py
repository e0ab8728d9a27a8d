"""What a run of a recipe on a folder would do, stage by stage, and why. Nothing is written, nothing is locked."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tutelage.config import Recipe, Stage, reads
from tutelage.pipelines.artefact import given_digests
from tutelage.pipelines.decide import Decision, decide
from tutelage.pipelines.folder import RunFolder
from tutelage.pipelines.keys import key_of
from tutelage.pipelines.plan import plan_recipe
from tutelage.pipelines.run import stages_forced


@dataclass(frozen=True, slots=True)
class StageStatus:
    """A stage and what would be done with it."""

    stage: Stage
    decision: Decision


def run_status(out: Path, recipe: Recipe | None = None, force: Collection[str] = ()) -> Iterator[StageStatus]:
    """What `tutelage run` would do with each stage.

    Args:
        recipe: None: the one that the folder's run declared.
    """
    folder = RunFolder(out)
    recipe = recipe or folder.declared()
    forced = stages_forced(force, recipe)
    plan = plan_recipe(recipe)
    here = plan.on_this_machine()
    digests: dict[str, str] = {}
    for stage_plan in plan.stages:
        stage = stage_plan.stage
        names = reads(stage, recipe.before(stage.name), recipe.environments)
        anew = [name for name in names if name not in digests]
        if anew:
            yield StageStatus(stage, Decision("runs", f"its input '{anew[0]}' is made anew"))
            continue
        inputs = given_digests(stage, recipe, here) | {name: digests[name] for name in names}
        key = key_of(stage_plan, recipe, inputs)
        decision = decide(folder.stage_folder(stage.name), key, resumed=False, forced=stage.name in forced)
        if decision.artefact is not None:
            digests[stage.name] = decision.artefact.digest
        yield StageStatus(stage, decision)
