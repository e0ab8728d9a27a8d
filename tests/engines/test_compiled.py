"""The compiled step and sampler: transformers' own text, plain torch's tokens; without a compiler the eager ones."""

from __future__ import annotations

import warnings
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from tests.engines.test_conformance import WINDOWS, written
from tests.engines.test_native import SAMPLINGS, gaps, greedy_text_is_generates_own, mixed_prompts
from tests.tiny import VOCAB, tiny_model, tiny_tokenizer
from tutelage import kernels
from tutelage.config import Sampling
from tutelage.engines import FAMILIES, NativeEngine, Request
from tutelage.engines.compiled import CompiledDecoder
from tutelage.engines.sequences import draw
from tutelage.errors import GuardError
from tutelage.functional import logprobs
from tutelage.kernels import build
from tutelage.models import Policy
from tutelage.models.lean import fits_kernels

SCALED = {"factor": 2.0, "rope_theta": 1e4}
WIDE = {"head_dim": 32}
"""Tiny models whose heads are wide enough to be compiled for."""

pytestmark = pytest.mark.skipif(not kernels.kernels_ready(), reason="no compiled kernels on this machine")


def wide_policy(family: str = "llama", dtype: torch.dtype = torch.float32, **changes: object) -> Policy:
    model = tiny_model(family, **{**WINDOWS.get(family, {}), **WIDE, **changes})
    return Policy(model, tiny_tokenizer(), dtype)


def test_it_is_the_compiled_step_that_serves() -> None:
    engine = NativeEngine(wide_policy())
    engine.generate([Request((7, 8), 1, 0)], Sampling(max_new_tokens=2))
    assert isinstance(engine.decoder, CompiledDecoder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("weight", ["self_attn.k_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"])
def test_packed_weights_that_are_not_the_policys_are_found(
    weight: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, ask = wide_policy(dtype=dtype, vocab_size=320), [Request((7, 8), 1, 0)]
    engine = NativeEngine(policy)

    def change_and_sample() -> None:
        with torch.no_grad():
            policy.masters[f"model.layers.1.{weight}.weight"].add_(0.5)
        policy.publish()
        engine.generate(ask, Sampling(max_new_tokens=2))

    for _ in range(3):
        change_and_sample()  # taken over
    monkeypatch.setattr(CompiledDecoder, "refresh", lambda self: None)
    with pytest.raises(GuardError, match=r"packed copy of 1\.\w+ is not the policy's weight"):
        change_and_sample()


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_greedy_text_of_64_prompts_is_generates_own(family: str) -> None:
    greedy_text_is_generates_own(wide_policy(family))


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        *((family, {}) for family in sorted(FAMILIES)),
        ("llama", {"tie_word_embeddings": False, "attention_bias": True, "num_attention_heads": 8}),
        ("llama", {"num_attention_heads": 6, "hidden_size": 48, "intermediate_size": 50}),
        ("llama", {"num_attention_heads": 16, "rope_parameters": SCALED | {"rope_type": "linear"}}),
        ("qwen3", {"head_dim": 64, "num_attention_heads": 8, "num_key_value_heads": 1}),
    ],
)  # fmt: skip
def test_the_learner_scores_what_was_sampled_alike(family: str, changes: dict[str, object]) -> None:
    assert gaps(wide_policy(family, **changes), Sampling(max_new_tokens=20)).max() < 1e-4
    bf16 = gaps(wide_policy(family, torch.bfloat16, **changes), Sampling(max_new_tokens=20))
    assert bf16.mean() < 0.02
    assert bf16.max() < 0.3


@pytest.mark.parametrize("name", SAMPLINGS)
def test_the_compiled_sampler_draws_from_the_exact_distribution(name: str) -> None:
    sampling, count = SAMPLINGS[name], 20_000
    logits_BV = torch.randn(1, VOCAB, generator=torch.Generator().manual_seed(3)) * 2
    uniform_B = torch.rand(count, generator=torch.Generator().manual_seed(4))
    tokens_B, logprobs_B = draw(logits_BV.expand(count, -1), uniform_B, sampling)
    filters = {"top_k": sampling.top_k, "top_p": sampling.top_p, "min_p": sampling.min_p}
    exact_V = logprobs.transform_logits(logits_BV, sampling.temperature, **filters).log_softmax(-1)[0]
    torch.testing.assert_close(logprobs_B, exact_V[tokens_B], atol=1e-6, rtol=1e-6)
    wanted_V = exact_V.double().exp().numpy() * count
    seen_V = np.bincount(tokens_B.numpy(), minlength=VOCAB)
    often_V = wanted_V >= 5
    rare = np.append(wanted_V[often_V], wanted_V[~often_V].sum())
    kept = rare > 0
    seen = np.append(seen_V[often_V], seen_V[~often_V].sum())
    assert stats.chisquare(seen[kept], rare[kept] * (count / rare[kept].sum())).pvalue > 1e-3


@pytest.mark.parametrize("vocabulary", [1, 15, 127, 128, 129, 1000, 4096])
@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0])
def test_the_compiled_sampler_is_plain_torchs(vocabulary: int, temperature: float) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    wide_BV = torch.full((300, vocabulary + 7), 50.0)  # what lies beside the row must not be seen
    wide_BV[:, :vocabulary] = torch.randn(300, vocabulary, generator=generator) * 3
    logits_BV = wide_BV[:, :vocabulary]
    uniform_B = torch.rand(300, generator=generator)
    tokens_B, logprobs_B = kernels.sample(logits_BV, uniform_B, temperature)
    if temperature:
        want_B, want_logprobs_B = logprobs.sample(logits_BV / temperature, uniform_B)
    else:
        want_B = logits_BV.argmax(-1)
        want_logprobs_B = logprobs.gather_logprobs(logits_BV, want_B)
    same_B = tokens_B == want_B  # a uniform within rounding of a border may fall on either side
    assert same_B.float().mean() > 0.99
    torch.testing.assert_close(logprobs_B[same_B], want_logprobs_B[same_B], atol=3e-6, rtol=1e-6)


def test_a_token_without_mass_is_never_drawn() -> None:
    logits_BV = torch.full((4, 300), -torch.inf)
    logits_BV[:, 130] = 1.0
    logits_BV[2:, 170] = 1.0
    tokens_B, logprobs_B = kernels.sample(logits_BV, torch.tensor([0.0, 1.0, 0.0, 1.0]), 1.0)
    assert tokens_B.tolist() == [130, 130, 130, 170]
    torch.testing.assert_close(logprobs_B, torch.tensor([0.0, 0.0, -np.log(2.0), -np.log(2.0)]).float())


def test_what_is_not_a_number_shows_in_the_log_probability() -> None:
    logits_BV = torch.zeros(2, 300)
    logits_BV[:, 3] = torch.nan
    for temperature in (0.0, 1.0):
        assert kernels.sample(logits_BV, torch.tensor([0.2, 0.9]), temperature)[1].isnan().all()


def test_new_weights_are_packed_anew() -> None:
    policy, requests = wide_policy(), [Request(tokens, 2, 1) for tokens in mixed_prompts(4)]
    engine, sampling = NativeEngine(policy), Sampling(temperature=0.0, max_new_tokens=8)
    before = engine.generate(requests, sampling)
    with torch.no_grad():
        for weight in policy.masters.values():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    policy.publish()
    after = engine.generate(requests, sampling)
    assert written(after) == written(NativeEngine(policy).generate(requests, sampling)) != written(before)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_changes_nothing(threads: int) -> None:
    policy, requests = wide_policy("qwen2"), [Request(tokens, 3, 1) for tokens in mixed_prompts(7)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        got = NativeEngine(policy).generate(requests, Sampling(max_new_tokens=9))
    finally:
        torch.set_num_threads(before)
    want = NativeEngine(policy, compiled=False).generate(requests, Sampling(max_new_tokens=9))
    assert written(got) == written(want)
    for mine, theirs in zip(chain(*got), chain(*want), strict=True):
        np.testing.assert_allclose(mine.logprobs, theirs.logprobs, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{"head_dim": 8}, {"hidden_act": "gelu"}, {"mlp_bias": True}, {"hidden_size": 40, "num_attention_heads": 4},
     {"rope_parameters": SCALED | {"rope_type": "dynamic"}}],
)  # fmt: skip
def test_a_model_it_was_not_written_for_is_left_to_the_eager_step(changes: dict[str, object]) -> None:
    assert fits_kernels(wide_policy().module)
    assert not fits_kernels(wide_policy("llama", **changes).module)


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """As if nothing had been built or loaded."""
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path))
    kernels.kernels_ready.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    kernels.kernels_ready.cache_clear()
    assert kernels.kernels_ready()


def test_without_a_compiler_the_eager_step_serves_and_says_so_once(
    forgotten: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.warns(RuntimeWarning, match=r"no compiled kernels.*there is no C\+\+ compiler.*CXX"):
        policy = wide_policy()
    engine, request, sampling = NativeEngine(policy), Request((7, 8, 9), 2, 0), Sampling(max_new_tokens=3)
    engine.generate([request], sampling)
    assert not policy.fused
    assert not isinstance(engine.decoder, CompiledDecoder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        NativeEngine(policy).generate([request], sampling)


def test_a_compiler_that_fails_is_quoted(forgotten: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'lanes.h:1: error: out of vectors' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.warns(RuntimeWarning, match="out of vectors"):
        assert not kernels.kernels_ready()
    assert not list((forgotten / "kernels").glob("*.so"))


def test_kernels_can_be_switched_off(forgotten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_KERNELS", "off")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not kernels.kernels_ready()
    assert not fits_kernels(wide_policy().module)


def test_another_torch_compiler_or_processor_has_its_own_library(
    forgotten: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    monkeypatch.setattr(build, "_compile", lambda compiler, here, library: (made.append(library), library.touch()))
    first = build._built()
    assert build._built() == first
    monkeypatch.setattr(build, "_processor", lambda: "another")
    assert build._built() != first
    assert len(made) == 2
