"""What of the machine a program sees: the interpreter, its standard library, what it links to, four devices."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
JOB: Final = "/job"  # where the program lies
SCRATCH: Final = "/tmp"  # the one place to write to, and where it runs
ENVIRONMENT: Final = {
    "HOME": SCRATCH,
    "TMPDIR": SCRATCH,
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONUTF8": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",  # sets of strings are walked in the same order in every run
}
_LIBRARIES: Final = ("/lib", "/lib64", "/lib32", "/usr/lib", "/usr/lib64", "/usr/lib32", "/etc/ld.so.cache")
_ZONES: Final = "/usr/share/zoneinfo"


@dataclass(frozen=True, slots=True)
class Layout:
    """Places that are shown read-only, where they are on the machine, and links beside them."""

    binds: tuple[str, ...]
    links: tuple[tuple[str, str], ...]  # what it points to, where it lies
    python: str

    @property
    def command(self) -> list[str]:
        """How a program is begun. Not `-I`, which would take PYTHONHASHSEED away; these three are the rest of it."""
        return [self.python, "-s", "-S", "-P", f"{JOB}/start.py"]


def this_layout() -> Layout:
    """That of the interpreter that runs this: the one below a virtual environment, without installed packages."""
    python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    prefix = Path(sys.base_prefix)
    own = [python, str(prefix / "lib"), str(prefix / sys.platlibdir)]
    wanted = dict.fromkeys([*_LIBRARIES, _ZONES, *own])
    links = tuple((os.readlink(place), place) for place in wanted if os.path.islink(place))
    binds = sorted(place for place in wanted if os.path.exists(place) and not os.path.islink(place))
    inner = {place for place in binds if any(place.startswith(other + "/") for other in binds)}
    return Layout(tuple(place for place in binds if place not in inner), links, python)
