"""The `prune` stage: the policy with fewer layers, to be distilled into."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.config import PruneStage
from tutelage.models.prune import prune
from tutelage.stages.context import Result, StageRun


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """The stage; there is nothing to resolve."""

    stage: PruneStage


def run_prune(plan: PrunePlan, run: StageRun) -> Result:
    """Keeps some of the layers and saves what is left."""
    kept = plan.stage.layers
    return {"type": "prune", "layers": kept, "saved": run.save_model(lambda folder: prune(run.model, kept, folder))}
