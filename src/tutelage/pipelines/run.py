"""Stages as one resumable run in one folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from tutelage.config import BASE, Recipe
from tutelage.data.journal import Journal
from tutelage.errors import RunFolderError
from tutelage.evaluation import summarise
from tutelage.evaluation.words import compared_in_words, score_name, summary_in_words
from tutelage.pipelines.folder import RunFolder, read_result
from tutelage.pipelines.plan import RunPlan, check_with_tokenizer, plan_recipe
from tutelage.report import build_report
from tutelage.stages import Plan, Result, StageRun, run_stage, with_labels, write_json
from tutelage.training import Metrics, Progress
from tutelage.training.trackers import open_trackers


def run_recipe(recipe: Recipe, out: Path, progress: Progress) -> Path:
    """Runs a recipe from its beginning. Returns the report's path.

    What can be refused without the model is refused before it is fetched; what needs only the tokenizer, before a
    weight is loaded.
    """
    plan = plan_recipe(recipe)
    with RunFolder(out) as folder:
        folder.declare(recipe)
        return _run(plan, folder, progress)


def resume_run(out: Path, progress: Progress) -> Path:
    """Goes on with a run where it was: finished stages stand, the one under way continues from its checkpoint."""
    with RunFolder(out) as folder:
        return _run(plan_recipe(folder.declared()), folder, progress)


def _run(plan: RunPlan, folder: RunFolder, progress: Progress) -> Path:
    model = plan.fetch_model(progress.note)
    if plan.model is None and model is not None:  # one that was here has been checked with the plan
        check_with_tokenizer(plan, model)
    made = {} if model is None else {BASE: model}
    metrics = Metrics(folder.path, open_trackers(plan.recipe.track, folder.path))
    samples = Journal(folder.path / "samples.jsonl")
    try:
        for index, stage_plan in enumerate(plan.stages):
            begins = made.get(getattr(stage_plan.stage, "start", None) or "", model)
            result = _stage(plan, index, stage_plan, folder, begins, made, metrics, samples, progress)
            if "saved" in result:
                model = folder.path / result["saved"]
                folder.point_at(model)
            for left in (result[key] for key in ("saved", "reward_model", "judged") if key in result):
                made[stage_plan.stage.name] = folder.path / left
    except BaseException:
        _leave(folder, metrics, samples, progress)
        raise
    return _leave(folder, metrics, samples, progress)


def _leave(folder: RunFolder, metrics: Metrics, samples: Journal, progress: Progress) -> Path:
    """Closes the logs and writes the report, of an unfinished run too. What went wrong there hides nothing else."""
    metrics.close()
    samples.close()
    try:
        return build_report(folder.path)
    except RunFolderError as error:
        progress.note(str(error))
        return folder.path / "report.html"


def _stage(
    plan: RunPlan,
    index: int,
    stage_plan: Plan,
    folder: RunFolder,
    model: Path | None,
    made: Mapping[str, Path],
    metrics: Metrics,
    samples: Journal,
    progress: Progress,
) -> Result:
    """Runs one stage, unless it is finished."""
    stage = stage_plan.stage
    stage_folder = folder.stage(index, stage)
    if (finished := read_result(stage_folder)) is not None:
        progress.note(f"{stage.name}: finished before")
        return finished
    stage_plan = with_labels(stage_plan, made)
    steps = getattr(stage_plan, "total_steps", 0)  # stages that train have some
    progress.begin_stage(stage.name, stage.type, index + 1, len(plan.stages), steps)
    run = StageRun(
        recipe=plan.recipe,
        stage=stage,
        folder=stage_folder,
        model=model or Path(),
        made=made,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        metrics=metrics,
        samples=samples,
        progress=progress,
        start=_start(stage_folder, metrics, samples),
    )
    result = run_stage(stage_plan, run)
    write_json(stage_folder / "result.json", result)
    progress.end_stage(_in_words(result))
    return result


def _start(stage_folder: Path, metrics: Metrics, samples: Journal) -> dict[str, int]:
    """How far the logs were written when the stage began for the first time."""
    path = stage_folder / "begin.json"
    if not path.is_file():
        write_json(path, {"metrics": metrics.offset, "samples": samples.offset})
    return json.loads(path.read_text())


def _in_words(result: Result) -> str:
    if result["type"] == "label":
        return f"{result['answers']} answers to {result['prompts']} prompts, in {result['judged']}"
    if "reward_model" in result:
        return f"{result['steps']} steps{_held_out_in_words(result)}, model in {result['reward_model']}"
    if result["type"] == "compare":
        return "; ".join(compared_in_words(result))
    if "scores" not in result:
        return f"{result['steps']} steps{_held_out_in_words(result)}, model in {result['saved']}"
    if result["type"] == "play":
        return f"mean return {summary_in_words(summarise(result['scores']))}"
    return f"{score_name(result['scores'])} {summary_in_words(summarise(result['scores']))}"


def _held_out_in_words(result: Result) -> str:
    if "perplexity" in result:
        return f", perplexity {result['perplexity']:.2f}"
    found = result.get("agreement")
    return f", {found['accuracy']['mean']:.1%} of {found['pairs']} held-out pairs" if found else ""
