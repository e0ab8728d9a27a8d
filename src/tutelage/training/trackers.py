"""The same numbers, forwarded to TensorBoard, trackio or W&B where a recipe asks for it."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tutelage.errors import MissingExtraError

_PACKAGES = {"tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb"}


class Tracker(Protocol):
    """One place that numbers are sent to."""

    def log(self, stage: str, step: int, numbers: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


def check_trackers(names: Sequence[str]) -> None:
    """Raises MissingExtraError if a tracker that is asked for is not installed. Imports none of them."""
    for name in names:
        if importlib.util.find_spec(_PACKAGES[name]) is None:
            raise MissingExtraError(_PACKAGES[name], name, f"track = ['{name}']")


def open_trackers(names: Sequence[str], folder: Path) -> Trackers:
    """Opens the trackers that a recipe asks for, for the run in `folder`."""
    check_trackers(names)
    return Trackers(names, folder)


class Trackers:
    """All trackers of a run. One that fails is dropped with a warning: no curve is worth a training run."""

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        self._open: dict[str, Tracker] = {}
        for name in names:
            try:
                self._open[name] = _KINDS[name](folder)
            except Exception as error:
                _warn(name, error)

    def log(self, stage: str, step: int, numbers: Mapping[str, float]) -> None:
        for name, tracker in list(self._open.items()):
            try:
                tracker.log(stage, step, numbers)
            except Exception as error:
                del self._open[name]
                _warn(name, error)

    def close(self) -> None:
        for name, tracker in self._open.items():
            try:
                tracker.close()
            except Exception as error:
                _warn(name, error)
        self._open.clear()


class TensorBoard:
    """Event files under DIR/tensorboard: `tensorboard --logdir DIR`."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, stage: str, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(f"{stage}/{name}", value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Trackio:
    """trackio's local database: `trackio show`. Nothing leaves the machine."""

    def __init__(self, folder: Path) -> None:
        import trackio

        self._run = trackio.init(
            project="tutelage", name=folder.name, embed=False,
            resume="allow", auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip

    def log(self, stage: str, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log({f"{stage}/{name}": value for name, value in numbers.items()}, step=step)

    def close(self) -> None:
        self._run.finish()


class Wandb:
    """Weights & Biases; offline, under DIR/wandb, where nobody is logged in."""

    def __init__(self, folder: Path) -> None:
        import wandb

        self._run = wandb.init(
            project="tutelage", name=folder.name, dir=str(folder),
            mode=None if wandb.login(prompt=False) else "offline", settings=wandb.Settings(silent=True),
        )  # fmt: skip

    def log(self, stage: str, step: int, numbers: Mapping[str, float]) -> None:
        named = {f"{stage}/{name}": value for name, value in numbers.items()}
        self._run.log({**named, f"{stage}/step": step})

    def close(self) -> None:
        self._run.finish()


_KINDS = {"tensorboard": TensorBoard, "trackio": Trackio, "wandb": Wandb}


def _warn(name: str, error: Exception) -> None:
    warnings.warn(f"{name} failed and is left out from here on: {error}", RuntimeWarning, stacklevel=3)
