"""What the back-ends share that begin a process with walls around it: its limits, its report of how it ended."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tutelage.errors import SandboxError
from tutelage.sandbox.base import Finished, Limits, Program

START: Final = (Path(__file__).parent / "start.py").read_text(encoding="utf-8")
_ASK: Final = '''
def ask(line, _out=__import__("sys").stdout, _in=__import__("sys").stdin):
    """What the host says to a line."""
    _out.write(line + "\\n")
    _out.flush()
    return _in.readline().rstrip("\\n")


'''


def whole_source(program: Program) -> str:
    """The source, with `ask` before it where the host answers."""
    return program.source if program.answer is None else _ASK + program.source


def own_limits(limits: Limits, apart: bool = True) -> str:
    """What the process puts on itself before the program begins, for start.py.

    Args:
        apart: is it the only one of its user? Otherwise the kernel would count all processes of that one.
    """
    most = {
        "AS": limits.memory,
        "CPU": math.ceil(limits.seconds) + 1,
        **({"NPROC": limits.processes} if apart else {}),
        "FSIZE": limits.disk,
        "NOFILE": 256,
        "CORE": 0,
        "MEMLOCK": 0,
        "MSGQUEUE": 0,
    }
    return ",".join(f"{name}={value}" for name, value in most.items())


@contextmanager
def readable(*contents: bytes) -> Iterator[list[int]]:
    """Open files with these contents that are nowhere on a disk, to be handed to a process."""
    opened: list[int] = []
    try:
        for content in contents:
            file = os.memfd_create("tutelage")
            opened.append(file)
            with open(file, "wb", closefd=False) as writing:
                writing.write(content)
            os.lseek(file, 0, os.SEEK_SET)
        yield opened
    finally:
        for file in opened:
            os.close(file)


@dataclass(frozen=True, slots=True)
class Report:
    """What a wall says of a run: how the program ended (negative: by that signal), or why there was no wall."""

    exit_code: int | None
    failed: str | None = None


def concluded(finished: Finished, report: Report, what: str) -> Finished:
    """The run with the exit code that the wall reports, which only it knows.

    Raises:
        SandboxError: the wall could not be built, so the program never ran.
    """
    if report.failed is not None:
        raise SandboxError(f"{what} cannot be set up: {report.failed}")
    if finished.stopped is not None:
        return finished
    code = report.exit_code
    if code is None:
        said = finished.stderr.decode(errors="replace").strip()
        raise SandboxError(f"{what} cannot be set up: {said[:500] or 'it said nothing'}")
    return replace(finished, exit_code=code if code >= 0 else 128 - code)
