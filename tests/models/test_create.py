"""Models of random weights: the deviations that are meant, the same from the same seed, and folders like any other."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.engines.test_native import greedy_text_is_generates_own
from tutelage import kernels
from tutelage.config import Architecture, Sampling, Tokenizer
from tutelage.data.packing import Row, pack
from tutelage.data.tokenizer import train_tokenizer
from tutelage.engines import NativeEngine, Request
from tutelage.engines.compiled import CompiledDecoder
from tutelage.models import count_parameters, create_model, llama_config, load_policy

SHAPE = Architecture(width=128, layers=4, heads=4, kv_heads=2)
TOKENIZER = train_tokenizer([Path(__file__).read_text()], Tokenizer(vocabulary=300))


def create(folder, seed=0, shape=SHAPE):
    create_model(folder, shape, TOKENIZER, [2, 4], 256, seed)
    return load_policy(folder, torch.float32, torch.device("cpu"))


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return create(tmp_path_factory.mktemp("created") / "model")


def test_weights_have_their_deviations_and_the_seed_decides_them(policy, tmp_path):
    weights = policy.masters
    for name, weight in weights.items():
        if weight.ndim == 1:
            assert weight.eq(1.0).all(), name
            continue
        residual = "o_proj" in name or "down_proj" in name
        wanted = 0.02 / math.sqrt(8) if residual else 0.02
        assert weight.std().item() == pytest.approx(wanted, rel=0.03), name
        assert abs(weight.mean().item()) < 5 * wanted / math.sqrt(weight.numel()), name
    first, second = (weights[f"model.layers.{i}.mlp.up_proj.weight"] for i in (0, 1))
    assert not first.equal(second)
    same, other = create(tmp_path / "same").masters, create(tmp_path / "other", seed=1).masters
    assert all(same[name].equal(weight) for name, weight in weights.items())
    assert not any(other[name].equal(weight) for name, weight in weights.items() if weight.ndim == 2)


def test_at_first_every_token_is_as_likely_as_any_other(policy):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(5, len(TOKENIZER), (8, 64), generator=generator).tolist()
    (batch,) = pack([Row((), tuple(row), number) for number, row in enumerate(tokens)], 512)
    with torch.no_grad():
        loss = -policy.score(batch)[0].mean().item()
    assert loss == pytest.approx(math.log(len(TOKENIZER)), rel=0.02)


def test_plain_transformers_opens_it_and_finds_the_same(policy):
    folder = policy.module.name_or_path
    module, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer("What is 12 + 30?").input_ids
    (batch,) = pack([Row((), tuple(tokens), 0)], 64)
    with torch.no_grad():
        logits = module(torch.tensor([tokens])).logits[0, :-1]
        ours = policy.logits(policy.states(batch), Sampling())
    assert (ours - logits).abs().max() < 1e-5
    assert module.generation_config.eos_token_id == [2, 4]
    assert (module.config.bos_token_id, module.config.eos_token_id, module.config.pad_token_id) == (1, 2, 0)
    assert module.config.max_position_embeddings == 256


@pytest.mark.skipif(not kernels.kernels_ready(), reason="no compiled kernels on this machine")
@pytest.mark.parametrize("shape", [SHAPE, Architecture(), Architecture(width=96, layers=2, heads=3, tied=False)])
def test_our_kernels_serve_it(shape, tmp_path):
    policy = create(tmp_path / "model", shape=shape)
    assert policy.fused
    engine = NativeEngine(policy)
    engine.generate([Request((1, 7), 2, 0)], Sampling(max_new_tokens=4))
    assert isinstance(engine.decoder, CompiledDecoder)
    assert engine.end_tokens == {2, 4}


@pytest.mark.skipif(not kernels.kernels_ready(), reason="no compiled kernels on this machine")
def test_what_is_sampled_greedily_is_transformers_own(policy):
    greedy_text_is_generates_own(policy)


def test_parameters_are_counted_without_weights():
    config = llama_config(Architecture(width=64, layers=3, heads=2, kv_heads=1, ffn=96, tied=False), 500, 128)
    attention, mlp, norms = 64 * 64 * 2 + 2 * 64 * 32, 3 * 64 * 96, 2 * 64
    assert count_parameters(config) == 2 * 500 * 64 + 3 * (attention + mlp + norms) + 64
    assert config.max_position_embeddings == 128
    assert Architecture(width=256).ffn_width == 704  # 8/3 of 256 is 682.7
    assert llama_config(Architecture(context=1024, rope_theta=5e5), 500, 128).max_position_embeddings == 1024
