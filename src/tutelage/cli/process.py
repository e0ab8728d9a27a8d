"""Settings of the process that must be made before torch is loaded. Measured: docs/architecture.md, Speed."""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h


def prepare_process() -> None:
    """Lets threads sleep instead of spin, and the allocator keep large blocks instead of returning them.

    With anything else on the cores, spinning OpenMP threads slow a step nine to fourteen times. Without the allocator's
    settings every large tensor is mapped, zeroed page by page and unmapped again: up to 40 % of a step.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 256 << 20)
