"""The back-end `namespaces`: a launcher in plain Python makes the walls out of what the kernel has. Linux 5.12 on."""

from __future__ import annotations

import itertools
import marshal
import os
from pathlib import Path
from typing import Final

from tutelage.errors import SandboxError
from tutelage.sandbox.base import Finished, Limits, Program
from tutelage.sandbox.contained import START, Report, concluded, own_limits, readable, whole_source
from tutelage.sandbox.layout import DEVICES, ENVIRONMENT, JOB, SCRATCH, this_layout
from tutelage.sandbox.process import supervise
from tutelage.sandbox.seccomp import seccomp_filter

_LAUNCHER: Final = str(Path(__file__).parent / "launcher.py")
_NOBODY: Final = 65534
_FIRST_USER: Final = 0x70000000  # far above any that a machine hands out
_FILES_MOST: Final = 4096
_numbers = itertools.count()


class Namespaces:
    """Own mounts, processes, network, user; read-only copies of the interpreter; Landlock, seccomp, limits."""

    name = "namespaces"

    def __init__(self) -> None:
        filtered = seccomp_filter()
        if filtered is None:
            raise SandboxError("the system calls of this system or processor are not known to the filter")
        self._layout, self._filter = this_layout(), filtered

    def run(self, program: Program, limits: Limits) -> Finished:
        config = marshal.dumps(self._config(program, limits))
        with readable(config, b"") as (given, status):
            command = [self._layout.python, "-I", "-S", _LAUNCHER, str(given), str(status)]
            finished = supervise(command, program, limits, {}, (given, status))
            report = os.pread(status, 1 << 16, 0)
        return concluded(finished, _said(report), "the namespace launcher")

    def _config(self, program: Program, limits: Limits) -> dict[str, object]:
        files = {f"{JOB}/start.py": START, f"{JOB}/main.py": whole_source(program)}
        layout = self._layout
        return {
            "binds": [*layout.binds, *DEVICES],
            "readable": [*layout.binds, JOB],
            "devices": DEVICES,
            "links": layout.links,
            "files": files,
            "job_size": 2 * sum(len(text.encode()) for text in files.values()) + (1 << 20),
            "scratch": SCRATCH,
            "disk": limits.disk,
            "files_most": _FILES_MOST,
            "user": _user(),
            "command": [*layout.command, own_limits(limits)],
            "environment": ENVIRONMENT,
            "filter": self._filter,
        }


def _said(report: bytes) -> Report:
    """What the launcher says of a run: `exit CODE`, or `failed WHY`."""
    lines = report.decode(errors="replace").splitlines()
    failed = [line.removeprefix("failed ") for line in lines if line.startswith("failed ")]
    codes = [int(line.removeprefix("exit ")) for line in lines if line.startswith("exit ")]
    return Report(codes[-1] if codes else None, failed[0] if failed else None)


def _user() -> int:
    """Whom the program runs as. For root one that no other run has, so that its processes are counted alone."""
    if os.getuid() != 0:
        return _NOBODY
    return _FIRST_USER + os.getpid() % (1 << 22) * 64 + next(_numbers) % 64
