"""What the native engine writes is what the model says: transformers' greedy text, the learner's log-probabilities, the
exact frequencies; and looking at tokens only every few steps changes none of it."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from tests.engines.test_conformance import WINDOWS, policy_of, prompts, written
from tests.tiny import VOCAB, tiny_model, tiny_tokenizer
from tutelage.config import Sampling
from tutelage.data.packing import Row, pack
from tutelage.engines import FAMILIES, NativeEngine, Request, native
from tutelage.engines.decoder import EagerDecoder
from tutelage.functional.logprobs import transform_logits
from tutelage.models import Policy

GREEDY = Sampling(temperature=0.0, max_new_tokens=24)
SAMPLINGS = {
    "plain": Sampling(max_new_tokens=2),
    "temperature": Sampling(temperature=0.6, max_new_tokens=2),
    "top-k": Sampling(temperature=1.3, top_k=12, max_new_tokens=2),
    "top-p": Sampling(top_p=0.7, max_new_tokens=2),
    "min-p": Sampling(min_p=0.1, max_new_tokens=2),
}


def mixed_prompts(count: int) -> list[tuple[int, ...]]:
    """Of 1 to 70 tokens, on both sides of every border of a page."""
    generator = torch.Generator().manual_seed(11)
    lengths = [1, 15, 16, 17, 31, 32, 33, 48, *torch.randint(1, 71, (count,), generator=generator).tolist()]
    return [tuple(torch.randint(5, VOCAB, (length,), generator=generator).tolist()) for length in lengths[:count]]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_greedy_text_of_64_prompts_is_generates_own(family: str) -> None:
    greedy_text_is_generates_own(policy_of(family))


def greedy_text_is_generates_own(policy: Policy) -> None:
    ours = NativeEngine(policy, slots=24).generate([Request(tokens, 1, 0) for tokens in mixed_prompts(64)], GREEDY)
    policy.module.set_attn_implementation("eager")
    for tokens, (mine,) in zip(mixed_prompts(64), ours, strict=True):
        whole = policy.module.generate(
            torch.tensor([tokens]), attention_mask=torch.ones(1, len(tokens)), do_sample=False, max_new_tokens=24
        )
        assert mine.tokens == whole[0, len(tokens) :].tolist()


def gaps(policy: Policy, sampling: Sampling) -> np.ndarray:
    """|sampler - learner| of every sampled token's log-probability."""
    asked = mixed_prompts(12)
    groups = NativeEngine(policy, slots=24).generate([Request(p, 4, i) for i, p in enumerate(asked)], sampling)
    rows = [Row(asked[i], tuple(c.tokens), i) for i, group in enumerate(groups) for c in group]
    with torch.no_grad():
        scored = torch.cat([policy.score(batch, sampling)[0] for batch in pack(rows, 600)])
    return np.abs(scored.numpy() - np.concatenate([c.logprobs for c in chain(*groups)]))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_learner_scores_what_was_sampled_alike_to_1e_4_in_fp32(family: str) -> None:
    for sampling in (Sampling(max_new_tokens=24), Sampling(temperature=0.8, top_p=0.9, max_new_tokens=24)):
        assert gaps(policy_of(family), sampling).max() < 1e-4


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_learner_scores_what_was_sampled_alike_to_2_percent_on_average_in_bf16(family: str) -> None:
    module = tiny_model(family, **WINDOWS.get(family, {}))
    gap = gaps(Policy(module, tiny_tokenizer(), torch.bfloat16), Sampling(max_new_tokens=24))
    assert gap.mean() < 0.02
    assert gap.max() < 0.2


@pytest.mark.parametrize("name", SAMPLINGS)
def test_sampled_frequencies_are_the_exact_distribution(name: str) -> None:
    """Of the first token, which the prompt's forward predicts, and of the second, which a decode step does."""
    policy, sampling, prompt, count = policy_of(), SAMPLINGS[name], prompts()[3], 4000
    engine = NativeEngine(policy)
    engine.end_tokens = frozenset()
    (group,) = engine.generate([Request(prompt, count, seed=5)], sampling)
    policy.module.set_attn_implementation("eager")
    every_VT = torch.tensor([[*prompt, token] for token in range(VOCAB)])
    with torch.no_grad():
        logits_V2V = policy.module(input_ids=every_VT, logits_to_keep=2).logits
    filters = {"top_k": sampling.top_k, "top_p": sampling.top_p, "min_p": sampling.min_p}
    first_V = transform_logits(logits_V2V[:1, 0], sampling.temperature, **filters).softmax(-1)[0].double()
    second_VV = transform_logits(logits_V2V[:, 1], sampling.temperature, **filters).softmax(-1).double()
    for place, exact_V in enumerate((first_V.numpy(), (first_V @ second_VV).numpy())):
        seen_V = np.bincount([completion.tokens[place] for completion in group], minlength=VOCAB)
        assert seen_V[exact_V == 0].sum() == 0
        often_V = exact_V * count >= 5
        seen = np.append(seen_V[often_V], seen_V[~often_V].sum())
        wanted = np.append(exact_V[often_V], exact_V[~often_V].sum()) * count
        kept = wanted > 0
        assert stats.chisquare(seen[kept], wanted[kept] * (count / wanted[kept].sum())).pvalue > 1e-3


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_what_is_sampled_beside_a_sequence_changes_nothing(family: str) -> None:
    policy = policy_of(family)
    requests = [Request(tokens, 3, seed=i) for i, tokens in enumerate(mixed_prompts(20))]
    sampling = Sampling(max_new_tokens=18)
    together = NativeEngine(policy).generate(requests, sampling)
    backwards = NativeEngine(policy, slots=7).generate(requests[::-1], sampling)[::-1]
    alone = [NativeEngine(policy).generate([request], sampling)[0] for request in requests]
    for other in (backwards, alone):
        assert written(other) == written(together)
        for mine, theirs in zip(chain(*together), chain(*other), strict=True):
            np.testing.assert_allclose(mine.logprobs, theirs.logprobs, atol=1e-5)


@pytest.mark.parametrize("family", ["qwen2", "mistral"])
@pytest.mark.parametrize("ahead", [4, 8, 100])
def test_looking_at_the_tokens_every_few_steps_changes_nothing(family: str, ahead: int) -> None:
    policy = policy_of(family)
    engine, looking_ahead = NativeEngine(policy, slots=9), NativeEngine(policy, slots=9, ahead=ahead)
    # Many ends, so that sequences begin at any step, beside others that are about to reach their limit: at the end of
    # their last page, the longest.
    engine.end_tokens = looking_ahead.end_tokens = frozenset(range(VOCAB - 20, VOCAB))
    requests = [Request(tokens, 4, seed=i) for i, tokens in enumerate([*mixed_prompts(15), (9,) * 75])]
    (free,) = engine.generate(requests[5:6], Sampling(max_new_tokens=12))
    stop = policy.tokenizer.decode(free[0].tokens)[4:8]
    for sampling in (
        Sampling(max_new_tokens=21),
        Sampling(max_new_tokens=1),
        Sampling(max_new_tokens=21, stop=(stop,)),
        Sampling(max_new_tokens=33, temperature=0.0),
    ):
        want = engine.generate(requests, sampling)
        told: list[int] = []
        got = looking_ahead.generate(requests, sampling, finished=lambda number, _, told=told: told.append(number))
        assert sorted(told) == list(range(16))
        assert [(c.tokens, c.finish) for c in chain(*got)] == [(c.tokens, c.finish) for c in chain(*want)]
        for mine, other in zip(chain(*got), chain(*want), strict=True):
            np.testing.assert_allclose(mine.logprobs, other.logprobs, atol=1e-5)
    ends = {c.finish for c in chain(*engine.generate(requests, Sampling(max_new_tokens=21)))}
    assert ends == {"stop", "length"}  # both kinds of end were among what was compared
    assert any(stop in policy.tokenizer.decode(c.tokens) for c in free)


def test_what_is_written_past_an_end_needs_no_memory() -> None:
    policy, sampling = policy_of(), Sampling(max_new_tokens=16)
    requests = [Request(tokens, 3, seed=1) for tokens in mixed_prompts(9)[:8]]  # the longest of 48 tokens, three pages
    want = NativeEngine(policy).generate(requests, sampling)
    page_bytes = 2 * 2 * 2 * 16 * 8 * 4
    for pages in (5, 8, 12):  # 48 + 16 keys in four pages; and page 0
        got = NativeEngine(policy, cache_bytes=pages * page_bytes, ahead=40).generate(requests, sampling)
        assert written(got) == written(want)


def test_a_decoder_hears_of_every_new_version_once_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    class Hearing(EagerDecoder):
        def refresh(self) -> None:
            heard.append("refresh")

        def step(self, tokens_B: Tensor, positions_B: Tensor, pages_BW: Tensor) -> Tensor:
            heard.append("step")
            return super().step(tokens_B, positions_B, pages_BW)

    monkeypatch.setattr(native, "decoder_for", lambda policy, pool, compiled: Hearing(policy.module, pool))
    policy, request, sampling = policy_of(), Request((7, 8), 1, 0), Sampling(max_new_tokens=2, temperature=0.0)
    engine = NativeEngine(policy)
    for _ in range(2):
        engine.generate([request], sampling)
    policy.publish()
    for _ in range(2):
        engine.generate([request], sampling)
    assert heard == ["step", "step", "refresh", "step", "step"]
