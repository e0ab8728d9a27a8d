"""One answer's time in a sandbox: all of its runs together."""

from __future__ import annotations

from dataclasses import replace

from tutelage.sandbox.base import Finished, Limits, Program, Sandbox


class OutOfTimeError(RuntimeError):
    """The time of one answer was too short for all of its runs, though none of them was slow."""


class Budget:
    """A sandbox for one answer, with so many seconds for all its runs.

    When they are over, an answer whose runs took long has run out of time, in whatever run is next. Where the runs were
    quick there are too many of them, which is no fault of the answer.

    Args:
        seconds: for all runs, counted as those of `Limits` are.
    """

    def __init__(self, sandbox: Sandbox, seconds: float) -> None:
        self._sandbox, self._seconds = sandbox, seconds
        self._left, self._runs = seconds, 0

    @property
    def name(self) -> str:
        return self._sandbox.name

    def run(self, program: Program, limits: Limits) -> Finished:
        """Runs it in what is left of the time.

        Raises:
            OutOfTimeError: nothing is left, and the runs before took less than a quarter of their limit.
        """
        if self._left <= 0.0:
            if (self._seconds - self._left) / self._runs < limits.seconds / 4:
                raise OutOfTimeError(
                    f"{self._runs} runs took {self._seconds:g} s, all that one answer has; raise total_seconds"
                )
            return Finished(b"", b"", None, "time")
        self._runs += 1
        finished = self._sandbox.run(program, replace(limits, seconds=min(limits.seconds, self._left)))
        self._left -= finished.seconds
        return finished
