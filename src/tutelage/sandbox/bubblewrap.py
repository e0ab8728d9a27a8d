"""The back-end `bubblewrap`: the walls of a small program that many systems ship for just that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import ExitStack
from typing import Final

from tutelage.errors import SandboxError
from tutelage.sandbox.base import Finished, Limits, Program
from tutelage.sandbox.cgroup import counted, parent_group
from tutelage.sandbox.contained import START, Report, concluded, own_limits, readable, whole_source
from tutelage.sandbox.layout import DEVICES, ENVIRONMENT, JOB, SCRATCH, this_layout
from tutelage.sandbox.process import supervise
from tutelage.sandbox.seccomp import seccomp_filter

_WALLS: Final = (
    "--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL",
    "--new-session", "--die-with-parent", "--clearenv", "--hostname", "sandbox",
)  # fmt: skip
_OWN: Final = 2  # processes of bubblewrap's in the group


class Bubblewrap:
    """Namespaces, read-only binds, seccomp; processes counted by a control group where it runs as root."""

    name = "bubblewrap"

    def __init__(self) -> None:
        found, filtered = shutil.which("bwrap"), seccomp_filter()
        if found is None:
            raise SandboxError("bwrap is not installed (apt-get install bubblewrap)")
        if filtered is None:
            raise SandboxError("the system calls of this system or processor are not known to the filter")
        self._group = parent_group() if os.getuid() == 0 else None
        if os.getuid() == 0 and self._group is None:
            raise SandboxError("as root bubblewrap needs a control group that counts processes, and none can be made")
        helped = subprocess.run([found, "--help"], capture_output=True, text=True, check=False)
        if "--size" not in helped.stdout:
            raise SandboxError("this bwrap is too old: it cannot bound /tmp (0.7 can)")
        self._layout, self._filter = this_layout(), filtered
        self._command = [found, *_WALLS, *(["--disable-userns"] if "--disable-userns" in helped.stdout else [])]

    def run(self, program: Program, limits: Limits) -> Finished:
        with ExitStack() as stack:
            contents = self._filter, START.encode(), whole_source(program).encode(), b""
            filtered, start, main, status = files = stack.enter_context(readable(*contents))
            counting = stack.enter_context(counted(self._group, limits.processes + _OWN)) if self._group else []
            seen = [word for path in self._layout.binds for word in ("--ro-bind", path, path)]
            seen += [word for path in DEVICES for word in ("--dev-bind", path, path)]
            seen += [word for target, path in self._layout.links for word in ("--symlink", target, path)]
            seen += ["--file", str(start), f"{JOB}/start.py", "--file", str(main), f"{JOB}/main.py"]
            seen += ["--size", str(limits.disk), "--perms", "0700", "--tmpfs", SCRATCH, "--remount-ro", "/"]
            told = [word for name, value in ENVIRONMENT.items() for word in ("--setenv", name, value)]
            ends = ["--chdir", SCRATCH, "--seccomp", str(filtered), "--json-status-fd", str(status), "--"]
            command = [*counting, *self._command, *seen, *told, *ends, *self._layout.command, own_limits(limits)]
            finished = supervise(command, program, limits, {}, files)
            report = os.pread(status, 1 << 16, 0)
        return concluded(finished, _said(report), "bubblewrap")


def _said(report: bytes) -> Report:
    """What bubblewrap says of a run, as JSON; without an exit code it never began."""
    lines = [json.loads(line) for line in report.splitlines() if line.strip()]
    codes = [line["exit-code"] for line in lines if "exit-code" in line]
    return Report(codes[-1] if codes else None)
