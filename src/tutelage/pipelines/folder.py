"""The folder of a run: who holds it, what it declares, where its stages are."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import shutil
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from tutelage.config import Recipe, Stage, validate
from tutelage.errors import RunFolderError
from tutelage.pipelines.versions import versions
from tutelage.stages import Result, write_json


def seed_folders(folder: Path) -> list[Path]:
    """Where the runs of several seeds lie in a folder, in their seeds' order."""
    return sorted(folder.glob("seed-*"), key=lambda path: (len(path.name), path.name))


class RunFolder:
    """A run's folder, locked by this process while it is open. The lock dies with the process: none can be stale."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    def __enter__(self) -> RunFolder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "lock").open("a+")
        except OSError as error:
            raise RunFolderError(f"{self.path}: cannot be written: {error.strerror}; choose another --out") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise RunFolderError(
                f"{self.path}: in use by process {holder}; wait for it, or choose another --out"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    def declare(self, recipe: Recipe) -> bool:
        """Writes down what will run, and on what. Did this recipe run here before?

        Raises RunFolderError where another recipe's run lies here.
        """
        before = (self.path / "recipe.json").exists()
        if before and (name := self.declared().name) != recipe.name:
            raise RunFolderError(
                f"{self.path}: holds a run of '{name}', and this recipe is '{recipe.name}'; choose another --out"
            )
        declared = {
            "recipe": recipe.model_dump(mode="json"),
            "versions": versions(),
            "machine": {
                "platform": platform.platform(),
                "python": platform.python_version(),
                "processor": _processor(),
                "cores": os.cpu_count(),
            },
        }
        try:
            write_json(self.path / "recipe.json", declared)
        except OSError as error:
            raise RunFolderError(f"{self.path}: cannot be written: {error.strerror}") from error
        return before

    def declared(self) -> Recipe:
        """The recipe of the run that lies here."""
        path = self.path / "recipe.json"
        try:
            table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunFolderError(f"{self.path}: no run lies here (no recipe.json){self._several()}") from None
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{path}: cannot be read: {error}") from None
        return validate(Recipe, table.get("recipe"), str(path))

    def _several(self) -> str:
        """What to do where runs of several seeds lie in it; "" where none do."""
        runs = [folder for folder in seed_folders(self.path) if (folder / "recipe.json").exists()]
        if not runs:
            return ""
        return (
            f"; runs of several seeds do: name one, such as {runs[0]}, or give `tutelage run RECIPE --seeds N "
            f"--out {self.path}` again, which goes on where it was"
        )

    def stage(self, index: int, stage: Stage) -> Path:
        """The folder of a stage; `index` from 0. Where the stage stood in another place before, it moves with it."""
        folder = self.path / "stages" / f"{index + 1:02d}-{stage.name}"
        if not folder.exists():
            elsewhere = self.stage_folder(stage.name)
            if elsewhere is not None:
                elsewhere.rename(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def stage_folder(self, name: str) -> Path | None:
        """Where a stage lies that ran before, whichever place it had; None: nowhere."""
        found = [
            path for path in (self.path / "stages").glob("*") if re.fullmatch(rf"\d+-{re.escape(name)}", path.name)
        ]
        return found[0] if found else None

    def put_aside(self, folder: Path) -> None:
        """Makes room for a stage to run again. What it had left lies in DIR/replaced, until that is replaced too."""
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        aside = self.path / "replaced" / folder.name
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        folder.rename(aside)
        folder.mkdir()

    def point_at(self, model: Path) -> None:
        """Makes `DIR/model` the run's newest model."""
        link = self.path / "model"
        beside = self.path / ".model.partial"
        beside.unlink(missing_ok=True)
        beside.symlink_to(os.path.relpath(model, self.path))
        beside.replace(link)


def read_result(stage_folder: Path) -> Result | None:
    """A finished stage's result; None where the stage is not finished."""
    path = stage_folder / "result.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def left_by(stage_folder: Path, result: Result) -> Path | None:
    """What a finished stage left for those after it; None: nothing."""
    kinds = ("saved", "reward_model", "judged", "conversations", "written")
    # The name alone: the stage may have had another place when it wrote that.
    return next((stage_folder / Path(result[kind]).name for kind in kinds if kind in result), None)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
