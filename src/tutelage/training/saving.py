"""Checkpoints beside the training: one thread writes, hashes and renames while the next step is on its way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Event, Thread
from time import perf_counter
from types import TracebackType
from typing import Self

from tutelage.training.checkpoint import Snapshot, write_checkpoint
from tutelage.training.state import State


class CheckpointWriter:
    """Saves checkpoints in the background, one at a time. Use it as a context manager: leaving it waits for the last.

    No tensor is copied for it. Masters and moments change in an update's last moment alone, so that is what waits until
    they have been handed to the operating system; sampling, forward and backward of the next step need not. What goes
    wrong is raised where training next asks: in that step, or at the next save, or on leaving.
    """

    def __init__(self, state: State, folder: Path, keep: int) -> None:
        self._state, self._folder, self._keep = state, folder, keep
        self._copied = Event()
        self._copied.set()
        self._failure: BaseException | None = None
        self._thread: Thread | None = None
        self._waited = 0.0
        state.before_change = self._before_change

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._state.before_change = lambda: None
        self._join()
        if error is None:
            self._raise_failure()
        elif self._failure is not None and self._failure is not error:
            error.add_note(f"and so did this: {self._failure}")

    def save(self, offsets: Mapping[str, int]) -> None:
        """Begins to save the state as it is now. Waits for the checkpoint before, if that is still under way.

        Raises:
            RunFolderError: the checkpoint before could not be written.
        """
        began = perf_counter()
        self.finish()
        self._copied.clear()
        self._thread = Thread(target=self._write, args=(Snapshot.of(self._state, offsets),), name="checkpoint")
        self._thread.start()
        self._waited += perf_counter() - began

    def finish(self) -> None:
        """Waits for the checkpoint that is under way. Raises RunFolderError if it could not be written."""
        self._join()
        self._raise_failure()

    def waited(self) -> float:
        """Seconds that training has stood still for checkpoints since it was last asked. Raises as `save` does."""
        self._raise_failure()
        seconds, self._waited = self._waited, 0.0
        return seconds

    def _before_change(self) -> None:
        began = perf_counter()
        self._copied.wait()
        self._waited += perf_counter() - began
        self._raise_failure()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _write(self, snapshot: Snapshot) -> None:
        try:
            write_checkpoint(snapshot, self._folder, self._keep, self._copied.set)
        except BaseException as error:  # it belongs to the training's thread
            self._failure = error
        finally:
            self._copied.set()
