"""The machine's ceilings as torch reaches them: matrix products by size and type, and reading memory."""

from __future__ import annotations

from tutelage.cli.process import prepare_process

prepare_process()  # before torch is loaded

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.pace import Pace, read_spec

ROWS = (8, 32, 64, 256, 1024, 2048)
SHAPES = ((576, 1536), (576, 3072), (576, 49152), (2048, 2048))  # in, out: SmolLM2's layers and head, and a square


def seconds(work: Callable[[], object], least: float) -> float:
    """Median time of one call over at least so many seconds, the first call left out."""
    work()
    times: list[float] = []
    until = time.perf_counter() + least
    while time.perf_counter() < until or len(times) < 3:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def products(least: float) -> Iterator[dict[str, Any]]:
    """GFLOP/s of x W^T, plain and with the weight in oneDNN's own layout."""
    for dtype in (torch.bfloat16, torch.float32):
        for width, out in SHAPES:
            weight = torch.randn(out, width).to(dtype)
            for rows in ROWS:
                x = torch.randn(rows, width).to(dtype)
                row = {"dtype": str(dtype).removeprefix("torch."), "rows": rows, "in": width, "out": out}
                work = 2 * rows * width * out / 1e9
                row["gflops"] = round(work / seconds(lambda x=x, w=weight: F.linear(x, w), least), 1)
                if torch.backends.mkldnn.is_available():
                    row["packed_gflops"] = round(work / seconds(_packed(x, weight), least), 1)
                yield row


def _packed(x: Tensor, weight: Tensor) -> Callable[[], Tensor]:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, x.shape[0])
    return lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")


def bandwidth(megabytes: int, least: float) -> dict[str, float]:
    """GB/s of reading the same memory again and again (a sum), and of copying it (what is read and what is written)."""
    values = torch.ones(megabytes * 1_000_000 // 4)
    twin = torch.empty_like(values)
    size = values.nbytes / 1e9
    return {
        "megabytes": megabytes,
        "read_gb_per_second": round(size / seconds(values.sum, least), 2),
        "copy_gb_per_second": round(2 * size / seconds(lambda: twin.copy_(values), least), 2),
    }


@torch.no_grad()
def main() -> None:
    pace, spec = Pace(), read_spec()
    if pace.ready():
        found = list(products(spec["least_seconds"]))
        pace.note(products=found, bandwidth=[bandwidth(size, 4 * spec["least_seconds"]) for size in spec["megabytes"]])
        pace.note(threads=torch.get_num_threads(), versions={"torch": torch.__version__})
        pace.report()
    pace.finish()


if __name__ == "__main__":
    main()
