"""Stages as one resumable run in one folder."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path

import torch

from tutelage.config import BASE, LEAVES, CompareStage, Recipe, Stage, reads
from tutelage.data.contamination import Contamination
from tutelage.data.journal import Journal
from tutelage.errors import ConfigError, RunFolderError
from tutelage.models import describe, load_tokenizer
from tutelage.pipelines.artefact import CARD, MANIFEST, Artefact, given_digests, seal
from tutelage.pipelines.card import card
from tutelage.pipelines.decide import BEGIN, Decision, begun, decide, is_half_done
from tutelage.pipelines.figures import check_gates, figures, in_words
from tutelage.pipelines.folder import RunFolder, left_by, read_result
from tutelage.pipelines.keys import Key, key_of
from tutelage.pipelines.overlap import overlap_before
from tutelage.pipelines.plan import RunPlan, check_stage, check_with_tokenizer, plan_recipe
from tutelage.pipelines.vocabularies import check_vocabularies
from tutelage.report import build_report
from tutelage.stages import (
    Plan,
    PretrainPlan,
    Result,
    StageRun,
    begin_from_nothing,
    completed,
    run_stage,
    write_json,
)
from tutelage.training import Metrics, Progress
from tutelage.training.trackers import open_trackers


def run_recipe(recipe: Recipe, out: Path, progress: Progress, force: Collection[str] = ()) -> Path:
    """Runs a recipe. In a folder where it ran before, stages whose outcome would be the same stand. Returns the report.

    What can be refused without the model is refused before it is fetched; what needs only the tokenizer, before a
    weight is loaded.

    Args:
        force: names of stages that run in any case; of a loop's stage, in all its rounds.
    """
    forced = stages_forced(force, recipe)
    plan = plan_recipe(recipe)
    with RunFolder(out) as folder:
        folder.declare(recipe)
        return _Life(plan, folder, progress, forced=forced).run()


def resume_run(out: Path, progress: Progress) -> Path:
    """Goes on with a run where it was: finished stages stand, the one under way continues from its checkpoint."""
    if not out.is_dir():
        raise RunFolderError(f"{out}: no run lies here")
    with RunFolder(out) as folder:
        return _Life(plan_recipe(folder.declared()), folder, progress, resumed=True).run()


def _asked(stage: Stage, recipe: Recipe) -> list[str | None]:
    """The models that a report is about."""
    if isinstance(stage, CompareStage):
        return [contestant.model for contestant in stage.contestants]
    return [recipe.begins(stage)]


def stages_forced(names: Collection[str], recipe: Recipe) -> set[str]:
    """The stages that names stand for. Raises ConfigError for one that is no stage's."""
    known, found = [stage.name for stage in recipe.stage], set[str]()
    for name in names:
        meant = [name] if name in known else [one for one in known if re.fullmatch(rf"{re.escape(name)}-\d+", one)]
        if not meant:
            raise ConfigError(f"--force {name}: the recipe has no such stage; it has {', '.join(known)}")
        found.update(meant)
    return found


class _Life:
    """The stages of a run, one after the other, and what they have left so far."""

    def __init__(
        self, plan: RunPlan, folder: RunFolder, progress: Progress, resumed: bool = False, forced: Collection[str] = ()
    ) -> None:
        self.plan, self.folder, self.progress, self.resumed, self.forced = plan, folder, progress, resumed, forced
        self.given = plan.fetch_models(progress.note)  # models that no stage makes
        fetched = self.given.keys() - plan.on_this_machine().keys()  # the others have been checked with the plan
        for name in fetched:
            check_with_tokenizer(plan, name, self.given[name])
        if fetched:
            check_vocabularies(plan.stages, plan.recipe, self.given)
        self.model = self.given.get(BASE)  # the newest policy
        self.made = dict(self.given)
        self.left: dict[str, Artefact] = {}
        self.overlaps: dict[str, Contamination] = {}  # by evaluation: what training has seen of it
        self.metrics = Metrics(folder.path, open_trackers(plan.recipe.track, folder.path))
        self.samples = Journal(folder.path / "samples.jsonl")
        self.events = Journal(folder.path / "events.jsonl")

    def run(self) -> Path:
        self._tell_overlaps()
        try:
            for index, stage_plan in enumerate(self.plan.stages):
                self._stage(index, stage_plan)
            self._write_cards()  # also those that a kill left out
        finally:
            report = self._leave()
        return report

    def _stage(self, index: int, plan: Plan) -> None:
        """Runs a stage, or lets it stand, and takes over what it left."""
        stage = plan.stage
        inputs = self._inputs(stage)
        key = key_of(plan, self.plan.recipe, inputs)
        folder = self.folder.stage(index, stage)
        kind = LEAVES[stage.type]
        if (folder / "result.json").is_file() and not (folder / MANIFEST).is_file():  # killed in between
            seal(folder, stage.name, kind, begun(folder) or key)
        decision = decide(folder, key, self.resumed, stage.name in self.forced)
        if decision.artefact is None:
            if decision.do == "goes on":
                self.progress.note(f"{stage.name}: goes on; {decision.why}")
            result = self._run(index, plan, folder, key, decision)
            artefact = seal(folder, stage.name, kind, begun(folder) or key)
        else:
            self.progress.note(f"{stage.name}: finished before; {decision.why}")
            artefact, result = decision.artefact, read_result(folder) or {}
        self.left[stage.name] = artefact
        if (left := left_by(folder, result)) is not None:
            self.made[stage.name] = left
        if "saved" in result:
            if decision.do == "stands" and isinstance(plan, PretrainPlan) and plan.from_nothing:
                self._check_what_follows(stage.name, self.made[stage.name])
            self.folder.point_at(self.made[stage.name])
        if kind == "policy":
            self.model = self.made[stage.name]
        if decision.do != "stands":
            self._write_cards()
        check_gates(stage, result)

    def _check_what_follows(self, stage: str, model: Path) -> None:
        """What could not be known before this stage had made a tokenizer."""
        check_with_tokenizer(self.plan, stage, model)
        check_vocabularies(self.plan.stages, self.plan.recipe, {**self.made, stage: model})

    def _run(self, index: int, plan: Plan, folder: Path, key: Key, decision: Decision) -> Result:
        stage = plan.stage
        if decision.do == "runs":
            if any(folder.iterdir()):
                self.progress.note(f"{stage.name}: runs again: {decision.why}")
            self._begin_anew(folder, stage)
        start = self._start(folder, key)
        begins = self.made.get(self.plan.recipe.begins(stage) or "", self.model)
        if isinstance(plan, PretrainPlan) and plan.from_nothing:
            begins = begin_from_nothing(plan, self.plan.recipe, folder, self.progress.note)
            self._check_what_follows(stage.name, begins)  # before time is spent
        planned, plan = plan, completed(plan, self.made, begins, folder, self.progress.note)
        if plan is not planned and begins is not None:
            check_stage(plan, begins, load_tokenizer(begins), describe(begins).context)
        steps = getattr(plan, "total_steps", 0)  # stages that train have some
        self.progress.begin_stage(stage.name, stage.type, index + 1, len(self.plan.stages), steps)
        run = StageRun(
            recipe=self.plan.recipe,
            stage=stage,
            folder=folder,
            model=begins or Path(),
            made=self.made,
            inputs=key.inputs,
            device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
            metrics=self.metrics,
            samples=self.samples,
            events=self.events,
            progress=self.progress,
            start=start,
        )
        result = run_stage(plan, run)
        overlap = self.overlaps.get(stage.name) or overlap_before(plan, self.plan.stages, self.plan.recipe)
        if overlap is not None:  # of prompts that a stage has made, it is known only now
            result["contamination"] = overlap.numbers
        write_json(folder / "result.json", result)
        self.progress.end_stage(in_words(result))
        return result

    def _tell_overlaps(self) -> None:
        """Before anything is trained: which evaluations ask what was learned."""
        for plan in self.plan.stages:
            overlap = overlap_before(plan, self.plan.stages, self.plan.recipe)
            if overlap is None:
                continue
            self.overlaps[plan.stage.name] = overlap
            if overlap.found:
                self.progress.note(f"{plan.stage.name}: {overlap.in_words}")

    def _inputs(self, stage: Stage) -> dict[str, str]:
        """The digests of all that a stage reads."""
        recipe = self.plan.recipe
        given = given_digests(stage, recipe, self.given)
        made = reads(stage, recipe.before(stage.name), recipe.environments)
        return given | {name: self.left[name].digest for name in made}

    def _begin_anew(self, folder: Path, stage: Stage) -> None:
        """Takes a stage's lines out of the logs, and puts aside what it had left.

        Other stages that are half done have noted how long the logs were, so these begin anew, too. The logs come
        first and the stage's own folder last: one that is killed in between is found to be begun anew again.
        """
        places = {other.name: self.folder.stage_folder(other.name) for other in self.plan.recipe.stage}
        again = {
            name: place
            for name, place in places.items()
            if name != stage.name and place is not None and is_half_done(place)
        }
        if any(folder.iterdir()):
            again[stage.name] = folder
        if not again:
            return
        for log in (self.metrics, self.samples, self.events):
            log.keep_only(lambda line: str(line.get("stage")).partition(":")[0] not in again)
        for place in again.values():
            self.folder.put_aside(place)

    def _start(self, folder: Path, key: Key) -> dict[str, int]:
        """How far the logs were written when the stage began for the first time."""
        path = folder / BEGIN
        if not path.is_file():
            logs = {"metrics": self.metrics, "samples": self.samples, "events": self.events}
            write_json(path, {**{name: log.offset for name, log in logs.items()}, "key": key.to_json()})
        begun = json.loads(path.read_text(encoding="utf-8"))
        return {name: begun[name] for name in ("metrics", "samples", "events") if name in begun}

    def _write_cards(self) -> None:
        """Beside each model its card, with what was found out about it so far."""
        recipe = self.plan.recipe
        finished = {stage.name: stage for stage in recipe.stage if stage.name in self.left}
        found = {name: figures(read_result(self.left[name].folder) or {"type": ""}) for name in finished}
        for name, stage in finished.items():
            if not (self.left[name].folder / "model").is_dir():
                continue
            reports = [
                (other.name, found[other.name])
                for other in finished.values()
                if LEAVES[other.type] == "report" and name in _asked(other, recipe)
            ]
            text = card(recipe, stage, self.left[name].key.inputs, found[name], reports)
            path = self.left[name].folder / "model" / CARD
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")

    def _leave(self) -> Path:
        """Closes the logs and writes the report, of an unfinished run too. What goes wrong there hides nothing else."""
        self.metrics.close()
        self.samples.close()
        self.events.close()
        try:
            return build_report(self.folder.path)
        except RunFolderError as error:
            self.progress.note(str(error))
            return self.folder.path / "report.html"
