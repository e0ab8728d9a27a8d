"""Recorded decode steps, with a recording that runs on any device: sizes, padding, replay."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.engines.test_conformance import policy_of, prompts
from tutelage.config import Sampling
from tutelage.engines import NativeEngine, Request, native
from tutelage.engines.decoder import Decoder, EagerDecoder
from tutelage.engines.graphs import GraphedDecoder
from tutelage.engines.pages import PagePool
from tutelage.models import Policy


class FakeCapture:
    """Like a graph, it runs on the very tensors that it was recorded with, and leaves its result in one place."""

    def __init__(self) -> None:
        self.recorded, self.replayed = 0, 0

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        self.recorded += 1
        output = work().clone()

        def replay() -> None:
            self.replayed += 1
            output.copy_(work())

        return replay, output


class Listening:
    """A decoder whose logits are its inputs; remembers the sizes that it saw."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.refreshed = 0

    def step(self, tokens_B: Tensor, positions_B: Tensor, pages_BW: Tensor) -> Tensor:
        self.sizes.append((pages_BW.shape[0], pages_BW.shape[1]))
        return torch.cat((tokens_B[:, None], positions_B[:, None], pages_BW), 1)

    def refresh(self) -> None:
        self.refreshed += 1

    def outdated(self, version: int) -> str | None:
        return None


def inputs(rows: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.arange(1, rows + 1), torch.arange(10, rows + 10), torch.arange(1, rows * width + 1).view(rows, width)


def test_each_size_is_recorded_once_and_padded_with_nobody() -> None:
    inner, capture = Listening(), FakeCapture()
    decoder = GraphedDecoder(inner, capture)
    for rows, width in ((3, 5), (4, 8), (2, 5), (1, 1), (3, 6), (1, 1)):
        tokens_B, positions_B, pages_BW = inputs(rows, width)
        seen = decoder.step(tokens_B, positions_B, pages_BW)
        assert torch.equal(seen[:, 0], tokens_B)
        assert torch.equal(seen[:, 1], positions_B)
        assert torch.equal(seen[:, 2 : 2 + width], pages_BW)
        assert not seen[:, 2 + width :].any()
    assert (capture.recorded, capture.replayed) == (3, 6)
    assert set(inner.sizes) == {(4, 8), (2, 8), (1, 1)}
    whole = decoder.recordings[4, 8].logits_BV
    decoder.step(*inputs(3, 5))
    assert not whole[3:].any()  # the row that an earlier, larger step left there is nobody's again
    decoder.refresh()
    assert inner.refreshed == 1


@pytest.mark.parametrize("ahead", [1, 8])
def test_a_graphed_engine_writes_what_the_eager_one_writes(monkeypatch: pytest.MonkeyPatch, ahead: int) -> None:
    capture = FakeCapture()

    def graphed(policy: Policy, pool: PagePool, compiled: bool) -> Decoder:
        return GraphedDecoder(EagerDecoder(policy.module, pool), capture)

    policy = policy_of("mistral")
    requests = [Request(tokens, 7, seed=i) for i, tokens in enumerate(prompts())]
    eager = NativeEngine(policy, slots=11)
    want = [eager.generate(requests, Sampling(max_new_tokens=14)) for _ in range(2)]
    monkeypatch.setattr(native, "decoder_for", graphed)
    engine = NativeEngine(policy, slots=11, ahead=ahead)
    for groups in want:
        got = engine.generate(requests, Sampling(max_new_tokens=14))
        assert [c.tokens for group in got for c in group] == [c.tokens for group in groups for c in group]
    assert capture.recorded < 12 < capture.replayed
    with torch.no_grad():  # an update in place reaches what was recorded before it
        policy.masters["model.layers.0.self_attn.o_proj.weight"].neg_()
    policy.publish()
    recorded = capture.recorded
    got = engine.generate(requests, Sampling(max_new_tokens=14))
    assert capture.recorded == recorded
    fresh = NativeEngine(policy, slots=11).generate(requests, Sampling(max_new_tokens=14))
    assert [c.tokens for group in got for c in group] == [c.tokens for group in fresh for c in group]
    assert [c.tokens for group in got for c in group] != [c.tokens for group in want[0] for c in group]
