"""What every engine promises, over the three of them; and what the native one promises beside transformers."""

from __future__ import annotations

import math
from itertools import chain

import numpy as np
import pytest
import torch

from tests.tiny import FAMILIES, VOCAB, tiny_model, tiny_tokenizer
from tutelage.config import Sampling
from tutelage.engines import (
    FAMILIES as NATIVE,
)
from tutelage.engines import (
    Completion,
    Engine,
    NativeEngine,
    Request,
    ScriptedEngine,
    TransformersEngine,
    build_engine,
)
from tutelage.errors import ConfigError, ModelError
from tutelage.functional.logprobs import gather_logprobs, transform_logits
from tutelage.models import PACKED, Policy

WINDOWS = {"mistral": {"sliding_window": 8}, "gemma2": {"sliding_window": 8}, "gemma3": {"sliding_window": 8}}
GREEDY = Sampling(temperature=0.0, max_new_tokens=14)


def policy_of(family: str = "llama", **changes: object) -> Policy:
    return Policy(tiny_model(family, **{**WINDOWS.get(family, {}), **changes}), tiny_tokenizer(), torch.float32)


def prompts(count: int = 5, seed: int = 0) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(seed)
    return [tuple(torch.randint(5, VOCAB, (3 + 4 * i,), generator=generator).tolist()) for i in range(count)]


def script(request: Request, index: int) -> Completion:
    noise = np.random.default_rng([request.seed, index])
    tokens = [*noise.integers(5, VOCAB, size=int(noise.integers(1, 9))).tolist(), 2]
    return Completion(tokens, [-math.log(VOCAB)] * len(tokens), "stop", 0)


def engine_of(name: str) -> Engine:
    match name:
        case "native":
            return NativeEngine(policy_of(), slots=4)
        case "transformers":
            return TransformersEngine(policy_of("gemma2"))
        case _:
            return ScriptedEngine(script)


def written(groups: list[list[Completion]]) -> list[list[list[int]]]:
    return [[completion.tokens for completion in group] for group in groups]


@pytest.fixture(params=["native", "transformers", "scripted"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return engine_of(request.param)


def test_every_request_gets_its_completions_in_order(engine: Engine) -> None:
    requests = [Request(tokens, 1 + i, seed=i) for i, tokens in enumerate(prompts())]
    groups = engine.generate(requests, Sampling(max_new_tokens=9))
    assert [len(group) for group in groups] == [1, 2, 3, 4, 5]
    alone = [engine.generate([request], Sampling(max_new_tokens=9))[0] for request in requests]
    assert written(groups) == written(alone)  # what is sampled beside it changes nothing


def test_every_token_has_its_logprob_and_its_end(engine: Engine) -> None:
    requests = [Request(tokens, 6, seed=i) for i, tokens in enumerate(prompts())]
    completions = [c for group in engine.generate(requests, Sampling(max_new_tokens=6)) for c in group]
    for completion in completions:
        assert 1 <= len(completion.tokens) <= 6
        assert len(completion.logprobs) == len(completion.tokens)
        assert all(logprob <= 0 and math.isfinite(logprob) for logprob in completion.logprobs)
        assert 2 not in completion.tokens[:-1]  # nothing is written after the end token
        assert (completion.finish == "stop") == (completion.tokens[-1] == 2)
        if completion.finish == "length":
            assert len(completion.tokens) == 6
    assert {completion.finish for completion in completions} >= {"length"}


def test_a_request_may_have_less_room_than_the_call(engine: Engine) -> None:
    sampling = Sampling(max_new_tokens=7)
    whole = engine.generate([Request(tokens, 5, seed=i) for i, tokens in enumerate(prompts())], sampling)
    short = engine.generate(
        [Request(tokens, 5, seed=i, most=2 * i + 1) for i, tokens in enumerate(prompts())], sampling
    )
    for i, (long, cut) in enumerate(zip(whole, short, strict=True)):
        room = min(7, 2 * i + 1)
        assert [c.tokens for c in cut] == [c.tokens[:room] for c in long]  # the same noise, and no more of it
        assert all((c.finish == "length") == (len(c.tokens) == room and c.tokens[-1] != 2) for c in cut)


def test_the_seed_alone_decides(engine: Engine) -> None:
    def sample(seed: int) -> list[list[list[int]]]:
        return written(engine.generate([Request(prompts()[0], 4, seed)], Sampling(max_new_tokens=8)))

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)
    (group,) = sample(1)
    assert len({tuple(tokens) for tokens in group}) > 1  # each completion has noise of its own


def test_progress_is_told(engine: Engine) -> None:
    heard: list[tuple[int, int]] = []
    requests = [Request(tokens, 2, seed=0) for tokens in prompts()]
    groups = engine.generate(requests, Sampling(max_new_tokens=5), lambda *told: heard.append(told))
    assert heard[-1] == (10, sum(len(c.tokens) for group in groups for c in group))
    assert heard == sorted(heard)


def test_a_request_is_told_as_soon_as_its_last_completion_is_written(engine: Engine) -> None:
    told: dict[int, list[Completion]] = {}
    done, done_when_told = [0], []

    def finished(number: int, group: list[Completion]) -> None:
        assert number not in told
        told[number] = [Completion(c.tokens[:], c.logprobs[:], c.finish, c.version) for c in group]
        done_when_told.append(done[-1])

    requests = [Request(tokens, 30, seed=i) for i, tokens in enumerate(prompts())]
    groups = engine.generate(requests, Sampling(max_new_tokens=5), lambda count, _: done.append(count), finished)
    assert [told[number] for number in range(5)] == groups  # complete when it was told: nothing is written afterwards
    assert done_when_told[0] < 100 < done[-1] == 150  # and not all of them at the end


def test_what_a_listener_raises_ends_the_call(engine: Engine) -> None:
    def stop(number: int, group: list[Completion]) -> None:
        raise InterruptedError(number)

    with pytest.raises(InterruptedError):
        engine.generate([Request((7, 8), 2, 0)], Sampling(max_new_tokens=3), finished=stop)


@pytest.mark.parametrize("name", ["native", "transformers"])
def test_what_does_not_fit_is_refused(name: str) -> None:
    engine = engine_of(name)
    with pytest.raises(ModelError, match=r"a prompt of 250 tokens.*context of 256: max_new_tokens = 6 would fit"):
        engine.generate([Request((7,) * 250, 1, 0)], Sampling(max_new_tokens=7))
    assert len(engine.generate([Request((7,) * 250, 1, 0)], Sampling(max_new_tokens=6))) == 1
    assert len(engine.generate([Request((7,) * 250, 1, 0, most=6)], Sampling(max_new_tokens=90))) == 1
    with pytest.raises(ModelError, match=r"context of 256: a prompt of 255 tokens would fit, with max_new_tokens = 1"):
        engine.generate([Request((7,) * 256, 1, 0)], Sampling(max_new_tokens=1))
    with pytest.raises(ModelError, match="empty prompt"):
        engine.generate([Request((), 1, 0)], GREEDY)
    assert engine.generate([], GREEDY) == []


@pytest.mark.parametrize("name", ["native", "transformers"])
def test_the_version_is_the_policys(name: str) -> None:
    engine = engine_of(name)
    engine.policy.publish()  # type: ignore[attr-defined]
    assert engine.generate([Request((7, 8), 1, 0)], GREEDY)[0][0].version == 1


@pytest.mark.parametrize("family", sorted(NATIVE))
@pytest.mark.parametrize("slots", [64, 3])
@pytest.mark.parametrize("tied", [True, False])
def test_native_writes_what_transformers_writes(family: str, slots: int, tied: bool) -> None:
    policy = policy_of(family, tie_word_embeddings=tied)
    requests = [Request(tokens, 3, seed=i) for i, tokens in enumerate(prompts())]
    for sampling in (GREEDY, Sampling(max_new_tokens=14), Sampling(temperature=0.7, top_p=0.8, max_new_tokens=14)):
        native = NativeEngine(policy, slots).generate(requests, sampling)
        theirs = TransformersEngine(policy).generate(requests, sampling)
        assert written(native) == written(theirs)
        for mine, other in zip(chain(*native), chain(*theirs), strict=True):
            np.testing.assert_allclose(mine.logprobs, other.logprobs, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_text_is_generates_own(family: str) -> None:
    policy = policy_of(family)
    engine = build_engine("auto", policy)
    assert engine.name == ("native" if family in NATIVE else "transformers")
    ours = written(engine.generate([Request(tokens, 1, 0) for tokens in prompts()], GREEDY))
    policy.module.set_attn_implementation("eager")
    for tokens, (mine,) in zip(prompts(), ours, strict=True):
        whole = policy.module.generate(
            torch.tensor([tokens]), attention_mask=torch.ones(1, len(tokens)), do_sample=False, max_new_tokens=14
        )
        assert whole[0, len(tokens) :].tolist() == mine
    policy.module.set_attn_implementation(PACKED)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_new_tokens=8),
        Sampling(temperature=0.6, max_new_tokens=8),
        Sampling(temperature=1.3, top_k=12, max_new_tokens=8),
        Sampling(top_p=0.7, max_new_tokens=8),
        Sampling(min_p=0.2, max_new_tokens=8),
    ],
    ids=["plain", "temperature", "top-k", "top-p", "min-p"],
)
def test_logprobs_are_of_the_distribution_sampled_from(sampling: Sampling) -> None:
    policy = policy_of()
    requests = [Request(tokens, 4, seed=i) for i, tokens in enumerate(prompts())]
    groups = NativeEngine(policy, slots=6).generate(requests, sampling)
    policy.module.set_attn_implementation("eager")
    for request, group in zip(requests, groups, strict=True):
        for completion in group:
            whole = torch.tensor([*request.tokens, *completion.tokens])
            logits_TV = policy.module(input_ids=whole[None]).logits[0, len(request.tokens) - 1 : -1]
            exact_TV = transform_logits(logits_TV, sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p)
            exact_T = gather_logprobs(exact_TV, whole[len(request.tokens) :])
            np.testing.assert_allclose(completion.logprobs, exact_T.detach(), atol=1e-4)


@pytest.mark.parametrize("name", ["native", "transformers"])
def test_stop_strings_end_a_text_across_token_borders(name: str) -> None:
    engine = engine_of(name)
    request = Request(prompts()[3], 1, seed=3)
    ((free,),) = engine.generate([request], Sampling(max_new_tokens=12))
    tokenizer = engine.policy.tokenizer  # type: ignore[attr-defined]
    text = tokenizer.decode(free.tokens)
    pieces = [tokenizer.decode(free.tokens[: i + 1]) for i in range(len(free.tokens))]
    stop = text[len(pieces[3]) - 1 : len(pieces[4]) + 1]  # the end of one token, the next, the beginning of a third
    ((stopped,),) = engine.generate([request], Sampling(max_new_tokens=12, stop=(stop,)))
    ends = next(i for i, piece in enumerate(pieces) if stop in piece)
    assert stopped.finish == "stop"
    assert stopped.tokens == free.tokens[: ends + 1]


def test_an_update_reaches_the_native_engine_without_a_sync() -> None:
    policy = policy_of()
    engine = NativeEngine(policy)
    request = [Request(prompts()[1], 1, 0)]
    before = engine.generate(request, GREEDY)[0][0]
    with torch.no_grad():
        policy.masters["model.layers.0.self_attn.o_proj.weight"].neg_()
    policy.publish()
    after = engine.generate(request, GREEDY)[0][0]
    fresh = NativeEngine(policy).generate(request, GREEDY)[0][0]
    assert after.logprobs == fresh.logprobs != before.logprobs


def test_engines_are_chosen_by_family_and_a_wrong_wish_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'native' decodes llama.*this model is 'gemma2'"):
        build_engine("native", policy_of("gemma2"))
    assert build_engine("transformers", policy_of()).name == "transformers"
