"""The loop. Everything that trains here is a `Task` in this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Protocol

from tutelage import interrupts
from tutelage.config import Checkpoints
from tutelage.errors import NonFiniteError
from tutelage.models import Policy
from tutelage.training.finite import keep_evidence
from tutelage.training.guards import Verdict
from tutelage.training.occupied import memory_gib
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

    Asked to end, it finishes the step under way, unless that has changed nothing yet (`interrupts.at_once`), and saves.

    Args:
        folder: where the checkpoints go.
        record: takes each step's number and metrics, before the step's checkpoint is written.
        offsets: how far each log is written; a resumed run cuts its logs back to it.
        watch: the stage's guards, where it has some.

    Raises:
        RunFolderError: a checkpoint could not be written; it may be that of the step before.
        NonFiniteError: an update was not applied; its batch is kept beside the checkpoints.
        GuardError: a guard has stopped the stage.
        Interrupted: the process was asked to end; the last finished step is saved, unless a guard doubts it.
    """
    saved, written, doubtful = state.step, offsets(), False
    with interrupts.deferred(), CheckpointWriter(state, folder, checkpoints.keep) as writer:
        if watch is not None and watch.rolls_back and state.step == 0:
            writer.save(written)  # a beginning to go back to
        try:
            while state.step < task.total_steps and not state.stopped:
                verdict = _watched(task, state, writer, folder.parent, record, watch)
                if watch is not None and verdict is not None:
                    writer.finish()
                    watch.roll_back(state, folder, verdict)
                    due, doubtful = True, False  # at once: a resumed run goes slower, too
                else:
                    doubtful = watch is not None and watch.doubtful
                    last = state.step == task.total_steps or state.stopped
                    due = last or (state.step % checkpoints.every == 0 and not doubtful)
                written = offsets()
                if due:
                    writer.save(written)
                    saved = state.step
                interrupts.check()
        except interrupts.Interrupted:
            if state.step > saved and not doubtful:
                writer.save(written)
            writer.finish()  # whoever is told that it is saved can rely on it
            raise
    return state


def _watched(
    task: Task,
    state: State,
    writer: CheckpointWriter,
    stage_folder: Path,
    record: Callable[[int, Mapping[str, float]], None],
    watch: Watch | None,
) -> Verdict | None:
    """One step, recorded; what the guards say of it, if that is to roll back."""
    try:
        numbers = _step(task, state, writer, stage_folder)
        record(state.step, numbers)
        return watch.see(state.step, numbers) if watch is not None else None
    except NonFiniteError as error:
        if watch is None:
            raise
        return watch.failed(state.step + 1, error)


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
    per_second = numbers["tokens"] / seconds
    whole = {"step_seconds": seconds, "tokens_per_second": per_second, "memory_gib": memory_gib()}
    return {**numbers, **whole}


def mean_of(updates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each metric, over the updates that have it: one whose samples were all skipped scored no token."""
    values: dict[str, list[float]] = {}
    for numbers in updates:
        for name, value in numbers.items():
            values.setdefault(name, []).append(value)
    return {name: sum(some) / len(some) for name, some in values.items()}
