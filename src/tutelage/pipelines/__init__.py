"""Stages as one resumable run in one folder."""

from tutelage.pipelines.folder import RunFolder, read_result
from tutelage.pipelines.plan import RunPlan, plan_recipe
from tutelage.pipelines.run import resume_run, run_recipe
from tutelage.pipelines.status import run_status

__all__ = ["RunFolder", "RunPlan", "plan_recipe", "read_result", "resume_run", "run_recipe", "run_status"]
