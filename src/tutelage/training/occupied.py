"""How much memory a run holds, at the places of a step where it is asked."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

_GIB = 2.0**30
_STATM = Path("/proc/self/statm")
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def memory_gib() -> float:
    """GiB: on a GPU the most that tensors held since it was last asked, else what the process holds now.

    On a CPU the allocator keeps what a phase has used, so what is held at the phase's end is close to its peak. 0 where
    the system does not tell.
    """
    if torch.cuda.is_available():
        most = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        return most / _GIB
    try:
        pages = int(_STATM.read_text().split()[1])
    except (OSError, ValueError, IndexError):  # not Linux
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / _GIB


def available_bytes() -> int:
    """What this process may have in all: of a GPU what is free, else what it holds and what the system could give.

    A container's own limit counts where it has one. Without a system that tells, so much that everything fits.
    """
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    found = re.search(r"MemAvailable:\s+(\d+) kB", _text(_MEMINFO))
    free = [int(found[1]) << 10] if found else []
    most, used = (_text(_CGROUP / name).strip() for name in ("memory.max", "memory.current"))
    if most.isdecimal() and used.isdecimal():
        free.append(max(0, int(most) - int(used)))
    return min(free) + round(memory_gib() * _GIB) if free else 2**63


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
