"""Model folders: opened offline and without code, refused with the remedy, written for plain transformers."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertForMaskedLM, MambaConfig
from transformers.utils import logging

from tests.tiny import FAMILIES, tiny_config, tiny_model, tiny_tokenizer
from tutelage.errors import ModelError
from tutelage.models.loading import (
    INDEX,
    WEIGHTS,
    ModelFacts,
    context_length,
    describe,
    has_weights,
    load_module,
    load_tokenizer,
    quiet,
    save,
)


@pytest.fixture
def folder(tmp_path):
    """A tiny Llama, saved."""
    save(tiny_model(), tiny_tokenizer(), tmp_path / "model")
    return tmp_path / "model"


def edit_config(folder, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("tied", [True, False])
def test_plain_transformers_opens_what_is_saved(tmp_path, family, tied):
    module = tiny_model(family, tie_word_embeddings=tied)
    save(module, tiny_tokenizer(), tmp_path)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert opened.dtype == torch.float32
    tokens = torch.tensor([[5, 6, 7]])
    assert torch.equal(opened(tokens).logits, module(tokens).logits)
    assert torch.equal(load_module(tmp_path, torch.float32)(tokens).logits, module(tokens).logits)
    facts = describe(tmp_path)
    assert facts == ModelFacts(module.config.model_type, sum(p.numel() for p in module.parameters()), 256, 2)


def test_the_tokenizer_is_saved_with_its_template(folder):
    for tokenizer in (AutoTokenizer.from_pretrained(folder), load_tokenizer(folder)):
        assert tokenizer("12 + 30<|im_end|>").input_ids == tiny_tokenizer()("12 + 30<|im_end|>").input_ids
        assert tokenizer.chat_template == tiny_tokenizer().chat_template
        assert tokenizer.eos_token_id == 2


@pytest.mark.parametrize("tied", [True, False])
def test_masters_are_saved_in_the_place_of_the_rounded_weights(tmp_path, tied):
    module = tiny_model(tie_word_embeddings=tied)
    masters = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    save(module.to(torch.bfloat16), tiny_tokenizer(), tmp_path, masters)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert opened.dtype == torch.float32
    assert all(torch.equal(weight, masters[name]) for name, weight in opened.named_parameters())
    assert ("lm_head.weight" in load_file(tmp_path / WEIGHTS)) != tied
    assert module.dtype == torch.bfloat16


def test_the_dtype_and_the_attention_are_those_asked_for(folder):
    module = load_module(folder, torch.bfloat16, "eager")
    assert module.dtype == torch.bfloat16
    assert module.config._attn_implementation == "eager"


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    for opens in (describe, load_tokenizer, lambda f: load_module(f, torch.float32)):
        with pytest.raises(ModelError, match=r"not a model folder; it must hold config.json"):
            opens(tmp_path)


def test_pickles_are_refused_unopened(folder):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelError, match=r"pickled \(pytorch_model.bin\).*save_pretrained"):
        load_module(folder, torch.float32)


def test_missing_weights_and_shards_are_refused(folder):
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"no model.safetensors in it"):
        load_module(folder, torch.float32)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(weights, "a.safetensors")}))
    assert not has_weights(folder)
    with pytest.raises(ModelError, match=r"a shard that .* names is missing"):
        load_module(folder, torch.float32)
    save_file(weights, folder / "a.safetensors", metadata={"format": "pt"})
    assert has_weights(folder)
    load_module(folder, torch.float32)
    (folder / INDEX).write_text("{")
    assert not has_weights(folder)


def test_a_missing_tensor_is_refused_and_not_made_up(folder):
    weights = load_file(folder / WEIGHTS)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 weights are missing \(first: model.layers.1.mlp.up_proj.weight\)"):
        load_module(folder, torch.float32)


def test_a_truncated_file_and_a_wrong_shape_are_refused(folder):
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:-100])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_module(folder, torch.float32)
    (folder / WEIGHTS).write_bytes(whole)
    edit_config(folder, intermediate_size=48)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_module(folder, torch.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "frobnicator"}, "knows no architecture"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "quantised"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification is not a causal"),
    ],
)
def test_what_cannot_be_trained_is_refused(folder, changes, message):
    edit_config(folder, **changes)
    with pytest.raises(ModelError, match=message):
        load_module(folder, torch.float32)


def test_an_encoder_is_not_a_causal_language_model(tmp_path):
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=60)
    BertForMaskedLM(config).save_pretrained(tmp_path)
    for opens in (describe, lambda f: load_module(f, torch.float32)):
        with pytest.raises(ModelError, match="BertForMaskedLM is not a causal language model"):
            opens(tmp_path)


def test_code_that_comes_with_a_model_is_never_run(folder):
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    mapping = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    edit_config(folder, auto_map=mapping)
    load_module(folder, torch.float32)  # a known family: its own class is used, not the folder's
    edit_config(folder, model_type="evil")
    with pytest.raises(ModelError, match="never run"):
        load_module(folder, torch.float32)


def test_a_broken_tokenizer_is_refused(folder):
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="tokenizer cannot be loaded"):
        load_tokenizer(folder)


def test_context_length():
    assert context_length(tiny_config(max_position_embeddings=77)) == 77
    assert context_length(MambaConfig()) == 2**31 - 1


def test_loading_is_quiet_and_leaves_the_settings_as_they_were(folder, capfd):
    logging.set_verbosity(logging.WARNING)  # transformers' default
    load_module(folder, torch.float32)
    load_tokenizer(folder)
    assert capfd.readouterr() == ("", "")
    assert logging.get_verbosity() == logging.WARNING
    assert logging.is_progress_bar_enabled()
    with pytest.raises(RuntimeError), quiet():
        raise RuntimeError
    assert logging.is_progress_bar_enabled()
