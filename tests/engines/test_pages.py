"""The pool of pages and who owns them: shared prompts, no leaks, no page written by two, the same text for any size."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.engines.test_conformance import policy_of, prompts, written
from tests.tiny import VOCAB
from tutelage.config import Sampling
from tutelage.engines import Completion, NativeEngine, Request, native
from tutelage.engines.decoder import Decoder, EagerDecoder
from tutelage.engines.pages import PAGE, PagePool, pages_for
from tutelage.errors import ModelError
from tutelage.models import Policy
from tutelage.models.lean import LeanModel

PAGE_BYTES = 2 * 2 * 2 * PAGE * 8 * 4  # of the tiny model: layers, keys and values, key heads, places, width, fp32


def long_prompts(count: int, seed: int = 3) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(seed)
    return [tuple(torch.randint(5, VOCAB, (29 + 3 * i,), generator=generator).tolist()) for i in range(count)]


class Watched(EagerDecoder):
    """The eager decoder, looking at who writes where."""

    def __init__(self, policy: Policy, pool: PagePool) -> None:
        super().__init__(policy.module, pool)
        self.rows, self.least_free = 0, len(pool.free)

    def step(self, tokens_B: Tensor, positions_B: Tensor, pages_BW: Tensor) -> Tensor:
        written_to = pages_BW.gather(1, (positions_B // PAGE)[:, None])[:, 0].tolist()
        assert 0 not in written_to
        assert len(set(written_to)) == len(written_to)  # no two sequences write to one page
        assert {self.pool.owners[page] for page in written_to} == {1}  # and nobody but the writer owns it
        assert not set(written_to) & set(self.pool.free)
        self.rows = max(self.rows, len(tokens_B))
        self.least_free = min(self.least_free, len(self.pool.free))
        return super().step(tokens_B, positions_B, pages_BW)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[Watched]:
    """Every decoder that an engine makes."""
    made: list[Watched] = []

    def decoder_for(policy: Policy, pool: PagePool, *_: object) -> Decoder:
        made.append(Watched(policy, pool))
        return made[-1]

    monkeypatch.setattr(native, "decoder_for", decoder_for)
    return made


def test_pages_come_back_when_their_last_owner_leaves() -> None:
    pool = PagePool(1, 1, 2, pages=6, dtype=torch.float32, device=torch.device("cpu"))
    first, second = pool.take(2), pool.take(3)
    assert sorted(first + second) == [1, 2, 3, 4, 5]  # never page 0
    pool.share(first)
    pool.release(first)
    assert pool.free == []
    pool.release(first)
    assert sorted(pool.free) == sorted(first)
    pool.release(second)
    assert sorted(pool.free) == [1, 2, 3, 4, 5]
    assert pool.owners == [0] * 6


def test_ten_thousand_sequences_leave_every_page_free(watched: list[Watched]) -> None:
    engine = NativeEngine(policy_of(), slots=64, cache_bytes=80 * PAGE_BYTES)
    requests = [Request(tokens, 20, seed=i) for i, tokens in enumerate((prompts() + long_prompts(5)) * 50)]
    groups = engine.generate(requests, Sampling(max_new_tokens=4))
    assert sum(map(len, groups)) == 10_000
    (decoder,) = watched
    assert sorted(decoder.pool.free) == list(range(1, 80))
    assert decoder.pool.owners == [0] * 80
    assert decoder.least_free == 0  # pages were what the sequences waited for
    some = range(0, 500, 50)
    alone = [NativeEngine(engine.policy).generate([requests[i]], Sampling(max_new_tokens=4))[0] for i in some]
    assert written([groups[i] for i in some]) == written(alone)


@pytest.mark.parametrize("family", ["qwen3", "mistral"])
def test_the_size_of_the_pool_changes_nothing(family: str, watched: list[Watched]) -> None:
    policy = policy_of(family)
    requests = [Request(tokens, 5, seed=i) for i, tokens in enumerate(long_prompts(4))]
    sampling = Sampling(max_new_tokens=20)
    want = NativeEngine(policy).generate(requests, sampling)
    for pages in (5, 6, 9, 14, 30):  # 5 with page 0: one sequence of the longest prompt at a time
        got = NativeEngine(policy, cache_bytes=pages * PAGE_BYTES).generate(requests, sampling)
        assert written(got) == written(want)
        for mine, other in zip(chain(*got), chain(*want), strict=True):
            np.testing.assert_allclose(mine.logprobs, other.logprobs, atol=1e-5)
    assert watched[1].rows == 1 < watched[-1].rows < watched[0].rows == 20


def test_a_prompt_is_prefilled_once_and_its_full_pages_are_shared(
    watched: list[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = NativeEngine(policy_of())
    prefilled: list[int] = []
    hidden = LeanModel.hidden

    def counting(model: LeanModel, tokens_BT: Tensor, *rest: Any) -> Tensor:
        if tokens_BT.shape[1] > 1:
            prefilled.append(len(tokens_BT))
        return hidden(model, tokens_BT, *rest)

    monkeypatch.setattr(LeanModel, "hidden", counting)
    tokens = long_prompts(8)[-1]  # 50 tokens: three pages, and two tokens in a fourth
    requests = [Request(tokens, 6, seed=1), Request(tokens[:40], 6, seed=2)]
    engine.generate(requests, Sampling(max_new_tokens=9, temperature=0.0))
    assert prefilled == [2]  # one forward, with two prompts in it
    (decoder,) = watched
    taken = len(decoder.pool.owners) - 1 - decoder.least_free
    assert taken == (3 + 6 * 1) + (2 + 6 * 2)  # 3 full pages, and up to 59 keys; 2, and up to 49
    assert decoder.pool.owners == [0] * len(decoder.pool.owners)


def test_a_pool_is_kept_for_the_next_call_and_grows(watched: list[Watched]) -> None:
    engine = NativeEngine(policy_of())
    request = Request(long_prompts(1)[0], 2, seed=0)
    engine.generate([request], Sampling(max_new_tokens=4))
    engine.generate([request], Sampling(max_new_tokens=3))
    assert len(watched) == 1
    grown = engine.generate([request], Sampling(max_new_tokens=100))
    assert len(watched) == 2
    assert written(grown) == written(NativeEngine(engine.policy).generate([request], Sampling(max_new_tokens=100)))


def test_a_call_that_was_interrupted_leaves_no_page_behind(watched: list[Watched]) -> None:
    engine = NativeEngine(policy_of(), slots=4, cache_bytes=12 * PAGE_BYTES)
    requests = [Request(tokens, 3, seed=i) for i, tokens in enumerate(long_prompts(3))]

    def stop(number: int, group: list[Completion]) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        engine.generate(requests, Sampling(max_new_tokens=9), finished=stop)
    again = engine.generate(requests, Sampling(max_new_tokens=9))
    assert len(watched) == 1
    assert len(watched[0].pool.free) == 11
    assert written(again) == written(NativeEngine(engine.policy).generate(requests, Sampling(max_new_tokens=9)))


def test_a_sequence_larger_than_the_memory_is_refused_with_what_fits() -> None:
    engine = NativeEngine(policy_of(), cache_bytes=7 * PAGE_BYTES)  # 6 pages, 96 keys
    request = Request(long_prompts(1)[0], 4, seed=0)  # 29 tokens
    with pytest.raises(ModelError, match=r"29 tokens and max_new_tokens = 68 need .*max_new_tokens = 67 would fit"):
        engine.generate([request], Sampling(max_new_tokens=68))
    assert len(engine.generate([request], Sampling(max_new_tokens=67))[0]) == 4
    with pytest.raises(ModelError, match="a prompt of 95 tokens would fit, with max_new_tokens = 1"):
        engine.generate([Request((7,) * 120, 1, 0)], Sampling(max_new_tokens=2))
    assert len(engine.generate([Request((7,) * 95, 1, 0)], Sampling(max_new_tokens=1))[0]) == 1


def test_pages_hold_keys() -> None:
    assert [pages_for(keys) for keys in (0, 1, 16, 17, 33)] == [0, 1, 1, 2, 3]
