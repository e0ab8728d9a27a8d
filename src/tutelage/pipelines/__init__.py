"""Stages as one resumable run in one folder; one recipe under several seeds."""

from tutelage.pipelines.folder import RunFolder, read_result
from tutelage.pipelines.plan import RunPlan, plan_recipe
from tutelage.pipelines.replay import Replayed, replay_run
from tutelage.pipelines.run import resume_run, run_recipe
from tutelage.pipelines.seeds import Aggregate, aggregate, run_seeds, runs_in
from tutelage.pipelines.status import run_status

__all__ = [
    "Aggregate",
    "Replayed",
    "RunFolder",
    "RunPlan",
    "aggregate",
    "plan_recipe",
    "read_result",
    "replay_run",
    "resume_run",
    "run_recipe",
    "run_seeds",
    "run_status",
    "runs_in",
]
