"""Settings of the process that must be made before torch is loaded. Measured: docs/architecture.md, Speed."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress

_HUGE_PAGES = "glibc.malloc.hugetlb=1"
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h


def restart_with_huge_pages() -> None:
    """Starts this program again, once, with an allocator that asks for huge pages: a tenth of an update's time.

    glibc reads the setting before the first line of Python, so nothing less will do. The process, its arguments and
    its files stay the same. Only for programs' entry points: what was computed before it is lost.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if sys.platform != "linux" or "glibc.malloc.hugetlb" in tunables:
        return  # it has been done, or the user wants it otherwise
    os.environ["GLIBC_TUNABLES"] = f"{tunables}:{_HUGE_PAGES}" if tunables else _HUGE_PAGES
    with suppress(OSError):  # an interpreter that cannot be started by its path works without
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def prepare_process() -> None:
    """Lets threads sleep instead of spin, and the allocator keep large blocks instead of returning them.

    With anything else on the cores, spinning OpenMP threads slow a step nine to fourteen times. Without the allocator's
    settings every large tensor is mapped, zeroed page by page and unmapped again: up to 40 % of a step. Blocks above
    32 MB (chunks of logits) are mapped all the same: kept on the heap, they tear it up and memory grows by 2 GB.
    Packed batches have ever new shapes, and for each oneDNN keeps code and buffers: without a bound on that cache,
    memory grows with every step.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "32")  # PyTorch's own cache of the same
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return
    mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 256 << 20)
