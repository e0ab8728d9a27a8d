"""Settings of the process that must be made before torch is loaded. Measured: docs/architecture.md, Speed."""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h


def prepare_process() -> None:
    """Lets threads sleep instead of spin, and the allocator keep large blocks instead of returning them.

    With anything else on the cores, spinning OpenMP threads slow a step nine to fourteen times. Without the allocator's
    settings every large tensor is mapped, zeroed page by page and unmapped again: up to 40 % of a step. Blocks above
    32 MB (chunks of logits) are mapped all the same: kept on the heap, they tear it up and memory grows by 2 GB.
    Packed batches have ever new shapes, and for each oneDNN keeps code and buffers: without a bound on that cache,
    memory grows with every step. Under a bound below the 60 shapes of one update, each is made again every time.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "256")  # PyTorch's own cache of the same
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
