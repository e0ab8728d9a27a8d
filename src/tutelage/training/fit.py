"""The loop. Everything that trains here is a `Task` in this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Protocol

from tutelage.config import Checkpoints
from tutelage.errors import NonFiniteError
from tutelage.models import Policy
from tutelage.training.finite import keep_evidence
from tutelage.training.saving import CheckpointWriter
from tutelage.training.state import State
from tutelage.training.watch import Watch
from tutelage.types import Batch, Loss


class Task(Protocol):
    """What is trained on what: the source of the batches and the loss on them."""

    total_steps: int

    def minibatches(self, state: State) -> Iterator[Sequence[Batch]]:
        """The micro-batches of each update of one step. SFT: one update. RL: roll out, score, credit, then updates."""
        ...

    def loss(self, policy: Policy, batch: Batch) -> Sequence[Loss]:
        """The losses of one micro-batch, each a sum with its unit: the policy's, a critic's."""
        ...

    def update(self, state: State, batches: Sequence[Batch]) -> Mapping[str, float]:
        """Changes the weights, by whatever rule the task's method has, and returns the metrics."""
        ...

    def after_step(self, state: State, metrics: Mapping[str, float]) -> None:
        """What moves once a step besides the weights: a reference, an algorithm's dials."""
        ...

    def metrics(self) -> Mapping[str, float]:
        """What the task itself saw in the step that just ended; `tokens` among it, those learned from."""
        ...


def fit(
    task: Task,
    state: State,
    folder: Path,
    checkpoints: Checkpoints,
    record: Callable[[int, Mapping[str, float]], None],
    offsets: Callable[[], Mapping[str, int]],
    watch: Watch | None = None,
) -> State:
    """Trains until the task's steps are done, or it stops by itself, or its guards stop it.

    Args:
        folder: where the checkpoints go.
        record: takes each step's number and metrics, before the step's checkpoint is written.
        offsets: how far each log is written; a resumed run cuts its logs back to it.
        watch: the stage's guards, where it has some.

    Raises:
        RunFolderError: a checkpoint could not be written; it may be that of the step before.
        NonFiniteError: an update was not applied; its batch is kept beside the checkpoints.
        GuardError: a guard has stopped the stage.
    """
    with CheckpointWriter(state, folder, checkpoints.keep) as writer:
        if watch is not None and watch.rolls_back and state.step == 0:
            writer.save(offsets())  # a beginning to go back to
        while state.step < task.total_steps and not state.stopped:
            try:
                numbers = _step(task, state, writer, folder.parent)
                record(state.step, numbers)
                verdict = watch.see(state.step, numbers) if watch is not None else None
            except NonFiniteError as error:
                if watch is None:
                    raise
                verdict = watch.failed(state.step + 1, error)
            if watch is not None and verdict is not None:
                writer.finish()
                watch.roll_back(state, folder, verdict)
                writer.save(offsets())  # at once: a resumed run goes slower, too
                continue
            last = state.step == task.total_steps or state.stopped
            if last or (state.step % checkpoints.every == 0 and not (watch is not None and watch.doubtful)):
                writer.save(offsets())
    return state


def _step(task: Task, state: State, writer: CheckpointWriter, stage_folder: Path) -> dict[str, float]:
    """One step, and its metrics."""
    started = perf_counter()
    updates: list[Mapping[str, float]] = []
    batches: Sequence[Batch] = ()
    try:
        for batches in task.minibatches(state):
            updates.append(task.update(state, batches))
    except NonFiniteError as error:
        kept = keep_evidence(stage_folder, state.step + 1, batches, error)
        raise NonFiniteError(f"{error}; {kept}", error.found) from error
    state.step += 1
    numbers = {**mean_of(updates), **task.metrics(), "checkpoint_seconds": writer.waited()}
    task.after_step(state, numbers)
    seconds = perf_counter() - started
    return {**numbers, "step_seconds": seconds, "tokens_per_second": numbers["tokens"] / seconds}


def mean_of(updates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each metric, over the updates that have it: one whose samples were all skipped scored no token."""
    values: dict[str, list[float]] = {}
    for numbers in updates:
        for name, value in numbers.items():
            values.setdefault(name, []).append(value)
    return {name: sum(some) / len(some) for name, some in values.items()}
