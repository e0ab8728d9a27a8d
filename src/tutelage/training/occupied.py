"""How much memory a run holds, at the places of a step where it is asked."""

from __future__ import annotations

import os
from pathlib import Path

import torch

_GIB = 2.0**30
_STATM = Path("/proc/self/statm")


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
