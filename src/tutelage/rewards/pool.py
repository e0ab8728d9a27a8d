"""Killable workers: what hangs is killed, what dies is replaced, and every job gets its outcomes."""

from __future__ import annotations

import pickle
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import wait
from threading import Event

from tutelage.rewards.base import Fault, Reward, Told
from tutelage.rewards.process import WorkerProcess
from tutelage.rewards.worker import Job

Answer = list[Told] | Fault  # a fault is that of every sample of the job
_GLANCE = 0.1  # seconds between two looks at whether the work is still wanted


class AbandonedError(Exception):
    """The jobs are no longer wanted: the caller that waited for them has been interrupted."""


class WorkerPool:
    """At most `workers` processes that score jobs. They start when first needed and live until `close`."""

    def __init__(self, rewards: Sequence[Reward], workers: int) -> None:
        self._rewards = rewards
        self._limit = workers
        self._workers: list[WorkerProcess] = []

    def run(self, jobs: Sequence[Job], abandoned: Event | None = None) -> list[list[Told]]:
        """The outcomes of each job, in order, one a sample.

        Args:
            abandoned: set by another thread when the outcomes are no longer wanted.

        Raises:
            TutelageError: no worker can start.
            AbandonedError: `abandoned` was set.
        """
        answers: dict[int, Answer] = {}
        waiting = deque(range(len(jobs)))
        try:
            while len(answers) < len(jobs):
                if abandoned is not None and abandoned.is_set():
                    raise AbandonedError
                self._staff(len(jobs) - len(answers))
                self._assign(jobs, waiting, answers)
                for worker in self._heard():
                    place, answer = worker.place, worker.answer()
                    if place is not None and answer is not None:
                        answers[place] = answer
        except BaseException:
            self.close()  # a job given up must not answer for a later one
            raise
        return [_spread(answers[place], len(job.samples)) for place, job in enumerate(jobs)]

    @property
    def processes(self) -> list[int]:
        """The ids of the processes that live."""
        return [worker.pid for worker in self._workers if not worker.gone]

    def close(self) -> None:
        """Kills every worker, and whatever it has started."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def _staff(self, wanted: int) -> None:
        """Forgets the dead and starts workers until there are as many as jobs, or as allowed."""
        self._workers = [worker for worker in self._workers if not worker.gone]
        while len(self._workers) < min(self._limit, wanted):
            self._workers.append(WorkerProcess(self._rewards))

    def _assign(self, jobs: Sequence[Job], waiting: deque[int], answers: dict[int, Answer]) -> None:
        for worker in self._workers:
            while waiting and worker.idle and not worker.gone:
                place = waiting.popleft()
                try:
                    packed = pickle.dumps(jobs[place])
                except Exception as error:
                    answers[place] = Fault(f"cannot be sent to a worker: {error}")
                    continue
                if not worker.take(place, packed, jobs[place].seconds):
                    waiting.appendleft(place)

    def _heard(self) -> list[WorkerProcess]:
        """Waits a moment for workers that have something to say, have died or have run out of time; returns those."""
        busy = {worker.connection: worker for worker in self._workers if not worker.idle}
        if not busy:
            return []
        soonest = min(worker.deadline for worker in busy.values())
        spoken = set(wait(list(busy), min(_GLANCE, max(0.0, soonest - time.monotonic()))))
        now = time.monotonic()
        return [worker for end, worker in busy.items() if end in spoken or worker.deadline <= now]


def _spread(answer: Answer, count: int) -> list[Told]:
    return [answer] * count if isinstance(answer, Fault) else answer
