"""CUDA graphs for decoding: a step is recorded once for each size, and replayed from then on.

A decode step is hundreds of small kernels, which the host cannot launch as fast as a GPU runs them. A recording holds
addresses, not values: weights are updated in place and the pool stays where it is, so it stays true.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.engines.decoder import Decoder, Prefilled

# Runs the work, and returns what runs it again and the tensor that every run leaves its result in.
Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]


@dataclass(frozen=True, slots=True)
class Recording:
    """One size: the inputs that it reads, how to run it, and where its logits lie afterwards."""

    tokens_B: Tensor
    positions_B: Tensor
    pages_BW: Tensor
    replay: Callable[[], None]
    logits_BV: Tensor


class GraphedDecoder:
    """Another decoder's step, recorded. Rows and pages are padded to powers of two; padded rows write to page 0.

    Args:
        decoder: its step must not look at a value on the host, and must derive new weights in place on `refresh`.
        capture: how a step is recorded; `cuda_capture()` wherever this is of use.
    """

    def __init__(self, decoder: Decoder, capture: Capture) -> None:
        self.decoder, self.capture = decoder, capture
        self.recordings: dict[tuple[int, int], Recording] = {}

    def refresh(self) -> None:
        self.decoder.refresh()

    def outdated(self, version: int) -> str | None:
        return self.decoder.outdated(version)

    def prefill(self, prompts: Sequence[tuple[int, ...]], pages: Sequence[list[int]]) -> list[Prefilled]:
        return self.decoder.prefill(prompts, pages)

    def step(self, tokens_B: Tensor, positions_B: Tensor, pages_BW: Tensor) -> Tensor:
        rows, width = pages_BW.shape
        size = _round_up(rows), _round_up(width)
        recording = self.recordings.get(size)
        if recording is None:
            recording = self.recordings[size] = self._record(*size, pages_BW.device)
        # What an earlier step left in the padding are pages that belong to somebody else by now.
        recording.tokens_B.zero_()[:rows] = tokens_B
        recording.positions_B.zero_()[:rows] = positions_B
        recording.pages_BW.zero_()[:rows, :width] = pages_BW
        recording.replay()
        return recording.logits_BV[:rows]

    def _record(self, rows: int, width: int, device: torch.device) -> Recording:
        tokens_B = torch.zeros(rows, dtype=torch.int64, device=device)
        positions_B = torch.zeros_like(tokens_B)
        pages_BW = torch.zeros(rows, width, dtype=torch.int64, device=device)
        replay, logits_BV = self.capture(lambda: self.decoder.step(tokens_B, positions_B, pages_BW))
        return Recording(tokens_B, positions_B, pages_BW, replay, logits_BV)


def cuda_capture() -> Capture:
    """Records into CUDA graphs, which share their memory: only one of them runs at a time."""
    memory = torch.cuda.graph_pool_handle()

    def capture(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        # Libraries allocate on their first calls, which must not be recorded.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=memory):
            output = work()
        return graph.replay, output

    return capture


def _round_up(count: int) -> int:
    """The next power of two."""
    return 1 << (count - 1).bit_length()
