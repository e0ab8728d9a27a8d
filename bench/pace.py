"""The measured program's side of the conversation with the driver. Standard library only: both sides use it.

    driver:  step                                       end
    program: {"ready": ...}    {"step": ...}            {"end": ...}

The driver measures from its word to the answer, so every program is timed by the same clock and in the same way.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Pace:
    """Waits for the driver's word before each step and reports after it."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # whatever libraries print goes to the log, and not among the answers
        self._facts: dict[str, Any] = {}

    def note(self, **facts: Any) -> None:
        """Something the driver should know of the process; told with the last word."""
        self._facts |= facts

    def ready(self) -> bool:
        """Everything is loaded. True: take the first step."""
        return self._say("ready", {})

    def report(self, **phases: float) -> bool:
        """One step is done. True: take another one."""
        return self._say("step", phases)

    def finish(self) -> None:
        """The last word: peak memory, and what the process was."""
        settings = {
            name: os.environ[name]
            for name in ("OMP_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "GLIBC_TUNABLES")
            if name in os.environ
        }
        print(json.dumps({"end": {"peak_gb": peak_gb(), "settings": settings, **self._facts}}), file=self._answers)

    def _say(self, kind: str, numbers: dict[str, Any]) -> bool:
        print(json.dumps({kind: numbers}), file=self._answers)
        return sys.stdin.readline().strip() == "step"


def peak_gb() -> float:
    """The most resident memory that this process ever had.

    Linux: VmHWM, for `ru_maxrss` counts what the parent held before the program was started. Elsewhere `ru_maxrss`.
    """
    status = Path("/proc/self/status")
    if status.exists():
        kilobytes = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(kilobytes.split()[1]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def read_spec() -> dict[str, Any]:
    """The one argument of every program: what to do, as a JSON file."""
    return json.loads(Path(sys.argv[1]).read_text())


def each_seed(train: Callable[[dict[str, Any], int], tuple[float, float]]) -> None:
    """A program whose step is a whole training, which gives its seconds and its score; the seeds count up from 0."""
    pace, spec = Pace(), read_spec()
    seed, going = 0, pace.ready()
    while going:
        seconds, score = train(spec, seed)
        seed += 1
        going = pace.report(train_seconds=seconds, score=score)
    pace.finish()
