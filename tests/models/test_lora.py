"""LoRA held as W0 + B A: the same logits, gradients and files as peft's, which goes through A and B in the forward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.tiny import tiny_model, tiny_tokenizer
from tutelage.config import Lora, Optimizer, Sampling
from tutelage.data.packing import Row, pack
from tutelage.engines import build_engine
from tutelage.engines.base import Request
from tutelage.errors import ModelError
from tutelage.models import Policy, load_reward_model
from tutelage.models.loading import save
from tutelage.training import State, update
from tutelage.types import Batch, Loss

SETTINGS = Lora(rank=4, alpha=12.0)
TOKENS = [5, 9, 40, 41, 77, 120, 2]


def adapted(compute: torch.dtype = torch.float32, family: str = "llama", **fields: Any) -> Policy:
    """An adapted policy whose B is no longer 0, so that both factors matter."""
    policy = Policy(tiny_model(family), tiny_tokenizer(), compute)
    policy.adapt(SETTINGS.model_copy(update=fields), 7)
    generator = torch.Generator().manual_seed(1)
    for name, factor in policy.masters.items():
        if "lora_B" in name:
            factor.data.copy_(0.05 * torch.randn(factor.shape, generator=generator))
    policy.publish()
    return policy


def theirs_of(name: str) -> str:
    """What peft calls a factor."""
    return f"base_model.model.{name.replace('.weight.lora', '.lora').replace('.weight', '.default.weight')}"


def peers(policy: Policy, family: str = "llama") -> PeftModel:
    """peft's model with the same factors."""
    config = LoraConfig(r=4, lora_alpha=12, target_modules="all-linear", lora_dropout=0.0)
    model = get_peft_model(tiny_model(family), config)
    state = {theirs_of(name): factor for name, factor in policy.masters.items()}
    missing = model.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys
    return model


def batch() -> Batch:
    (only,) = pack([Row((), tuple(TOKENS), 0)], 100)
    return only


def nll(policy: Policy, batch: Batch) -> list[Loss]:
    return [Loss(-policy.score(batch)[0].sum(), "tokens")]


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2"])
def test_logits_and_gradients_are_pefts(family: str) -> None:
    policy = adapted(family=family)
    model = peers(policy, family)
    logprobs_A, _ = policy.score(batch())
    logits = model(input_ids=torch.tensor([TOKENS])).logits[0, :-1]
    theirs_A = logits.log_softmax(-1).gather(1, torch.tensor(TOKENS[1:])[:, None])[:, 0]
    torch.testing.assert_close(logprobs_A, theirs_A, rtol=1e-4, atol=1e-4)
    logprobs_A.sum().backward()
    policy.collect_gradients()
    theirs_A.sum().backward()
    named = dict(model.named_parameters())
    for name, factor in policy.masters.items():
        theirs = named[
            f"base_model.model.{name.replace('.weight.lora', '.lora').replace('.weight', '.default.weight')}"
        ]
        assert factor.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(factor.grad, theirs.grad, rtol=1e-3, atol=1e-4)
    assert len(policy.masters) == 2 * 2 * 7  # factors of seven matrices of two layers
    assert all(weight.grad is None for weight in policy.module.parameters())


def test_gradients_of_micro_batches_add_up() -> None:
    whole, cut = adapted(), adapted()
    rows = [Row((), tuple(TOKENS[: 3 + i]), i) for i in range(4)]
    for policy, budget in ((whole, 100), (cut, 7)):
        state = State(policy, Optimizer(lr=1e-3))
        update(state, pack(rows, budget), nll, 1)
    for name, factor in whole.masters.items():
        torch.testing.assert_close(cut.masters[name], factor, rtol=1e-4, atol=1e-6)


def test_what_is_saved_opens_in_peft_and_merged_in_transformers(tmp_path: Path) -> None:
    save(tiny_model(), tiny_tokenizer(), tmp_path / "base")
    policy = adapted()
    policy.save(tmp_path / "out")
    tokens = torch.tensor([TOKENS])
    expected = peers(policy)(input_ids=tokens).logits
    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "out")(input_ids=tokens).logits
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    theirs = PeftModel.from_pretrained(base, tmp_path / "out/adapter")(input_ids=tokens).logits
    torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(theirs, expected, rtol=1e-4, atol=1e-4)


def test_before_anything_is_learned_nothing_has_changed(tmp_path: Path) -> None:
    """In bf16, too, where the module's weights are rounded: what is saved is what was loaded, to the last bit."""
    save(tiny_model(), tiny_tokenizer(), tmp_path / "base")
    policy = Policy(tiny_model(), tiny_tokenizer(), torch.bfloat16)
    before = {name: weight.detach().clone() for name, weight in policy.module.named_parameters()}
    policy.adapt(SETTINGS, 7)
    policy.publish()
    assert all(weight.equal(before[name]) for name, weight in policy.module.named_parameters())
    policy.save(tmp_path / "out")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "out"))
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_only_the_factors_learn_and_they_do(compute: torch.dtype) -> None:
    policy = Policy(tiny_model(), tiny_tokenizer(), compute)
    before = {name: weight.detach().clone() for name, weight in policy.module.named_parameters()}
    policy.adapt(SETTINGS, 7)
    state = State(policy, Optimizer(lr=3e-2))
    losses = [update(state, [batch()], nll, 1)["loss"] for _ in range(12)]
    assert losses[-1] < 0.5 * losses[0]
    changed = {name for name, weight in policy.module.named_parameters() if not weight.equal(before[name])}
    assert changed == set(policy.adapter.targets if policy.adapter else ())
    assert "model.embed_tokens.weight" not in changed


@pytest.mark.parametrize("exact", [False, True], ids=["rounded", "exact in bf16"])
@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_without_its_adapter_a_policy_is_what_it_was(family: str, compute: torch.dtype, exact: bool) -> None:
    """And afterwards what it had become: both to the last bit, also where something fails meanwhile."""
    module = tiny_model(family)
    if exact:
        module.to(torch.bfloat16).to(torch.float32)
    policy = Policy(module, tiny_tokenizer(), compute)
    with torch.no_grad():
        first_A, _ = policy.score(batch())
        policy.adapt(SETTINGS, 7)
        held = policy.frozen_copy()
        for factor in policy.masters.values():
            factor.add_(0.05 * torch.randn(factor.shape, generator=torch.Generator().manual_seed(1)))
        policy.publish()
        learned_A, _ = policy.score(batch())
        assert not learned_A.equal(first_A)
        sums = {name: weight.clone() for name, weight in policy.module.named_parameters()}
        version = policy.version
        with policy.without_adapter() as reference:
            assert reference.score(batch())[0].equal(first_A)
            assert held.score(batch())[0].equal(first_A)
            theirs = dict(held.module.named_parameters())
            assert all(weight.equal(theirs[name]) for name, weight in reference.module.named_parameters())
        with pytest.raises(KeyboardInterrupt), policy.without_adapter():
            raise KeyboardInterrupt
        assert all(weight.equal(sums[name]) for name, weight in policy.module.named_parameters())
        assert policy.score(batch())[0].equal(learned_A)
    assert policy.version == version


def test_the_sampler_knows_nothing_of_an_adapter_that_was_off_for_a_while() -> None:
    """Its packed weights are those of the version, which has not changed."""
    policy = adapted()
    engine = build_engine("auto", policy)
    requests = [Request((5, 9, 40), 4, 3)]
    before = engine.generate(requests, Sampling(max_new_tokens=8))
    with torch.no_grad(), policy.without_adapter() as reference:
        reference.score(batch())
    assert engine.generate(requests, Sampling(max_new_tokens=8)) == before


def test_some_layers_alone() -> None:
    policy = adapted(targets=("q_proj", "v_proj"))
    assert len(policy.masters) == 2 * 2 * 2
    with pytest.raises(ModelError, match=r"lora\.targets: this model has no layer \['c_attn'\]; it has \['down_proj'"):
        adapted(targets=("c_attn",))


def test_a_reward_model_trains_its_head_beside_the_factors(tmp_path: Path) -> None:
    save(tiny_model(), tiny_tokenizer(), tmp_path / "base")
    model = load_reward_model(tmp_path / "base", torch.float32, torch.device("cpu"))
    model.adapt(SETTINGS, 7)
    assert sum("lora" in name for name in model.masters) == len(model.masters) - 1
    (one,) = pack([Row((5, 9), (40, 41, 2), 0, (False, False, True))], 100)
    state = State(model, Optimizer(lr=1e-2))  # type: ignore[arg-type]
    for _ in range(8):
        update(state, [one], lambda m, b: [Loss(-m.scores(b).sum(), "tokens")], 1)  # type: ignore[attr-defined]
    with torch.no_grad():
        reached = model.scores(one)
        assert reached.item() > 0.1
        head = model.masters[model.head].clone()
        with model.body.without_adapter():  # of its body only
            assert model.masters[model.head].equal(head)
            assert not model.scores(one).equal(reached)
        assert model.scores(one).equal(reached)
        model.save(tmp_path / "rm")
        again = load_reward_model(tmp_path / "rm", torch.float32, torch.device("cpu"))
        torch.testing.assert_close(again.scores(one), reached, rtol=1e-4, atol=1e-4)
