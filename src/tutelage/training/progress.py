"""What a long command tells about its way. The stages speak to this Protocol; the command line shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """Hears what a run is doing. Nothing that it does may change the run."""

    def begin_stage(self, name: str, kind: str, index: int, stages: int, total_steps: int) -> None:
        """A stage begins.

        Args:
            name: the stage's name in the recipe.
            kind: its type, for example `rl`.
            index: which of the stages it is, from 1.
            stages: how many stages the run has.
            total_steps: steps that the stage will take; 0 where it does not count in steps.
        """
        ...

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """A step is done; `step` counts from 1. The first one heard after a resume may be later."""
        ...

    def progress(self, done: int, total: int, what: str) -> None:
        """Something inside a stage or a step goes on: `done` of `total` of `what`, for example questions."""
        ...

    def end_stage(self, summary: str) -> None:
        """The stage is finished, with its outcome in a sentence."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line: a warning, a checkpoint, where the report lies."""
        ...


class Quiet:
    """A `Progress` that says nothing: for library use and tests."""

    def begin_stage(self, name: str, kind: str, index: int, stages: int, total_steps: int) -> None:
        pass

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        pass

    def progress(self, done: int, total: int, what: str) -> None:
        pass

    def end_stage(self, summary: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass


def duration(seconds: float) -> str:
    """`42 s`, `3:07 min` or `2:05 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"
