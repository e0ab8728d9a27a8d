"""A control group that counts processes, where the machine lets us make one: the kernel refuses root nothing else."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tutelage.errors import SandboxError

_BURIAL = 5.0  # seconds that the kernel may take to end what was killed
_numbers = itertools.count()


def parent_group() -> Path | None:
    """The group below which this process may make others that count processes; None where there is none."""
    for line in _lines("/proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "pids" or not controllers:
            for place in _mounts(version_1=bool(controllers)):
                group = place / path.lstrip("/")
                if _usable(group):
                    return group
    return None


@contextmanager
def counted(parent: Path, processes: int) -> Iterator[list[str]]:
    """The beginning of a command that runs the rest in a new group with at most so many processes."""
    group = parent / f"tutelage-{os.getpid()}-{next(_numbers)}"
    group.mkdir()
    try:
        (group / "pids.max").write_text(str(processes))
        yield ["/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group)]
    finally:
        _remove(group)


def _remove(group: Path) -> None:
    """Waits until the kernel has ended all that was in the group, which it does for a moment after the first."""
    until = time.monotonic() + _BURIAL
    while time.monotonic() < until:
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.005)


def _usable(group: Path) -> bool:
    trial = group / f"tutelage-{os.getpid()}-trial-{next(_numbers)}"
    try:
        trial.mkdir()
    except OSError:
        return False
    try:
        return (trial / "pids.max").exists()
    finally:
        trial.rmdir()


def _mounts(version_1: bool) -> list[Path]:
    """Where the groups of a version are mounted, of version 1 those that count processes."""
    fields = [line.split() for line in _lines("/proc/self/mounts")]
    wanted = [(f[1], f[3].split(",")) for f in fields if len(f) > 3 and f[2] == ("cgroup" if version_1 else "cgroup2")]
    return [Path(place) for place, options in wanted if not version_1 or "pids" in options]


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SandboxError(f"{path} cannot be read: {error.strerror}") from None
