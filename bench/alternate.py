"""The driver: starts programs beside each other and lets them take their steps in turn, one at a time.

Both stay loaded, so the machine is the same for both; the one that waits sleeps (no spinning threads on either side).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.machine import busy_seconds, process_seconds

ROOT = Path(__file__).resolve().parents[1]
# For both: without it, one library's idle threads spin for a while and take the other one's cores. A help to the peer.
_ENVIRONMENT = {
    "GOMP_SPINCOUNT": "1000",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
}
TUNED = ":".join(
    f"glibc.malloc.{name}"
    for name in ("hugetlb=1", "mmap_threshold=1073741824", "trim_threshold=4294967296", "top_pad=268435456")
)


@dataclass(frozen=True, slots=True)
class Program:
    """What to start: `python -m module SPEC.json`."""

    name: str
    module: str
    spec: dict[str, Any]
    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict[str, str])


class ProgramFailed(RuntimeError):
    """A program ended before its last word; the message holds the end of what it wrote."""


class Running:
    """A started program. Use it as a context manager: leaving it ends the process."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.seconds: list[float] = []
        self.steps: list[dict[str, float]] = []
        self.facts: dict[str, Any] = {}
        self.first: dict[str, float] = {}  # what the very first step told, counted or not
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        self._log = Path(self._folder.name) / "log.txt"
        spec = Path(self._folder.name) / "spec.json"
        spec.write_text(json.dumps(program.spec))
        self._process = subprocess.Popen(
            [program.python, "-m", program.module, str(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log.open("w"),
            text=True,
            cwd=ROOT,
            env={**os.environ, **_ENVIRONMENT, **program.environment},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self) -> None:
        self.facts |= self._answer("ready")

    def step(self, counts: bool) -> None:
        """Lets the program take one step. A warm-up does not count."""
        began = time.perf_counter()
        self._tell("step")
        phases = self._answer("step")
        self.first = self.first or phases
        if counts:
            self.seconds.append(time.perf_counter() - began)
            self.steps.append(phases)

    def end(self) -> None:
        self._tell("end")
        self.facts |= self._answer("end")
        self._process.wait()

    def result(self) -> dict[str, Any]:
        """Medians of the counted steps, each step's seconds, and the facts of the process."""
        names = [name for name in self.steps[0] if all(name in step for step in self.steps)]  # some steps skip all
        return {
            "name": self.program.name,
            "median_seconds": round(statistics.median(self.seconds), 4),
            "seconds": [round(value, 4) for value in self.seconds],
            "phases": {name: round(statistics.median(step[name] for step in self.steps), 4) for name in names},
            **self.facts,
        }

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        try:
            print(word, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise self._failure() from None

    def _answer(self, kind: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failure()
        answer = json.loads(line)
        if kind not in answer:
            raise ProgramFailed(f"{self.program.name}: answered {line.strip()!r} where '{kind}' was due")
        return answer[kind]

    def _failure(self) -> ProgramFailed:
        self._process.wait()
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
        return ProgramFailed(f"{self.program.name}: ended with status {self._process.returncode}\n{tail}")


def alternate(programs: Sequence[Program], steps: int, warmup: int = 1) -> list[Running]:
    """Starts the programs one after the other, then steps A B A B ...; returns them ended, with what they measured.

    Each one's facts get `others_cores`: how many cores anything else kept busy during the counted steps.

    Raises:
        ProgramFailed: a program ended early.
    """
    with ExitStack() as stack:
        running = []
        for program in programs:
            running.append(stack.enter_context(Running(program)))
            running[-1].wait_until_ready()
        for _ in range(warmup):
            for one in running:
                one.step(counts=False)
        pids = [one.pid for one in running]
        began, busy, own = time.perf_counter(), busy_seconds(), process_seconds(pids)
        for _ in range(steps):
            for one in running:
                one.step(counts=True)
        others = busy_seconds() - busy - (process_seconds(pids) - own)
        share = round(max(0.0, others / (time.perf_counter() - began)), 2)
        for one in running:
            one.end()
            one.facts["others_cores"] = share
        return running
