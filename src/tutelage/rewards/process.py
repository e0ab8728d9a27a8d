"""One worker process, as its pool sees it: starting, idle, or busy with one job until its deadline."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Pipe
from weakref import WeakSet

from tutelage import interrupts
from tutelage.errors import TutelageError
from tutelage.rewards.base import Fault, Reward, Told
from tutelage.sandbox import unsafe_exec_permitted

START_SECONDS = 300.0  # for a worker to load its rewards; nothing of it counts for a sample
_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; from tutelage.rewards.worker import serve; serve({descriptor}, {unsafe})"
)


class WorkerProcess:
    """A bare process, neither a fork nor multiprocessing's: it inherits no threads and no torch, never runs the user's
    `__main__` again, and ends when its parent does, however that ends.
    """

    def __init__(self, rewards: Sequence[Reward]) -> None:
        self.connection, theirs = Pipe()
        program = _PROGRAM.format(path=sys.path, descriptor=theirs.fileno(), unsafe=unsafe_exec_permitted())
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # Sets of strings are walked in an order that depends on the hash seed: scores must not.
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
                start_new_session=True,  # Ctrl-C is the parent's affair; and what a reward starts dies with its worker
            )
        _living.add(self)
        self.ready = False
        self.place: int | None = None  # of the job it is busy with
        self._seconds = START_SECONDS
        self.deadline = time.monotonic() + START_SECONDS
        with suppress(OSError):  # dead already: `answer` will say so
            self.connection.send(list(rewards))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def gone(self) -> bool:
        """Was it killed and buried?"""
        return self.connection.closed

    @property
    def idle(self) -> bool:
        return self.ready and self.place is None

    def take(self, place: int, packed: bytes, seconds: float) -> bool:
        """Starts on a pickled job. False: it died while it was idle, so the job is another's."""
        try:
            self.connection.send_bytes(packed)
        except OSError:
            self.kill()
            return False
        self.place, self._seconds, self.deadline = place, seconds, time.monotonic() + seconds
        return True

    def answer(self) -> list[Told] | Fault | None:
        """What it says, or the fault where it died or its time is over; None where it has only just become ready.

        Raises:
            TutelageError: it could not start.
        """
        try:
            if not self.connection.poll():
                self.kill()
                return self._fault(f"timed out after {self._seconds:g} s")
            reply = self.connection.recv()
        except (EOFError, OSError):
            self.kill()
            return self._fault(f"killed its worker (exit code {self._process.returncode})")
        if self.ready:
            self.place = None
            return reply
        if reply is not None:
            raise TutelageError(f"a reward worker cannot load its rewards:\n{reply}")
        self.ready = True
        return None

    def _fault(self, reason: str) -> Fault:
        if not self.ready:
            raise TutelageError(f"a reward worker cannot start: it {reason}")
        return Fault(reason)

    def strike(self) -> None:
        """Kills the process and whatever it has started, without waiting for it."""
        if self._process.returncode is None:  # else its number may be another's by now
            with suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS says so of a dead one
                os.killpg(self._process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kills the process and whatever it has started, and waits until it is gone."""
        self.strike()
        self._process.wait()
        self.connection.close()


_living: WeakSet[WorkerProcess] = WeakSet()


def _kill_all() -> None:
    for worker in list(_living):
        worker.strike()


interrupts.before_exit(_kill_all)
