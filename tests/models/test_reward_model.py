"""A reward model scores what plain transformers scores, learns, keeps its scale, and is refused where it must be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.tiny import FAMILIES, tiny_config, tiny_model, tiny_tokenizer
from tutelage.data.packing import Row, pack
from tutelage.errors import ModelError
from tutelage.models.loading import load_scorer, save
from tutelage.models.reward_model import RewardModel, load_reward_model

CPU = torch.device("cpu")
TEXTS = ([5, 9, 40, 41, 2], [5, 9, 77, 2], [5, 9, 120, 121, 122, 123, 2])


def rows() -> list[Row]:
    """Three answers to the prompt [5, 9], scored at their last token."""
    return [Row((5, 9), tuple(t[2:]), 0, tuple(i == len(t) - 3 for i in range(len(t) - 2))) for t in TEXTS]


def scorer(folder: Path, family: str = "llama", style: str = "chatml", **changes: bool) -> RewardModel:
    save(tiny_model(family, **changes), tiny_tokenizer(style), folder)
    model = load_reward_model(folder, torch.float32, CPU)
    torch.nn.init.normal_(model.masters["score.weight"], generator=torch.Generator().manual_seed(3))
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_transformers_scores_the_same(family: str, tmp_path: Path) -> None:
    model = scorer(tmp_path / "policy", family)
    model.save(tmp_path / "rm")
    with torch.no_grad():
        (batch,) = pack(rows(), 100)
        ours = model.scores(batch)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm", dtype=torch.float32).eval()
    pad = AutoTokenizer.from_pretrained(tmp_path / "rm").pad_token_id
    assert pad != 2
    longest = max(map(len, TEXTS))
    padded = torch.tensor([[*text, *[pad] * (longest - len(text))] for text in TEXTS])
    with torch.no_grad():
        theirs = plain(padded, attention_mask=(padded != pad).long()).logits[:, 0]
    assert ours.std() > 0.01
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    again = load_reward_model(tmp_path / "rm", torch.float32, CPU)
    with torch.no_grad():
        torch.testing.assert_close(again.scores(batch), ours, rtol=0, atol=1e-6)


def test_a_new_head_begins_at_zero_and_an_untied_one_for_words_is_dropped(tmp_path: Path) -> None:
    save(tiny_model(tie_word_embeddings=False), tiny_tokenizer(), tmp_path)
    model = load_reward_model(tmp_path, torch.float32, CPU)
    assert "lm_head.weight" not in model.masters
    (batch,) = pack(rows(), 100)
    scores = model.scores(batch)
    assert scores.eq(0).all()
    scores.sum().backward()
    assert model.masters["score.weight"].grad is not None
    assert model.masters["score.weight"].grad.abs().sum() > 0


def test_rescaling_gives_mean_zero_and_deviation_one_and_is_saved(tmp_path: Path) -> None:
    model = scorer(tmp_path / "policy")
    (batch,) = pack(rows(), 100)
    with torch.no_grad():
        before = model.scores(batch)
        model.rescale(before.mean().item(), before.std().item())
        once = model.scores(batch)
        torch.testing.assert_close(once, (before - before.mean()) / before.std(), rtol=1e-4, atol=1e-5)
        model.rescale(0.5, 2.0)
        torch.testing.assert_close(model.scores(batch), (once - 0.5) / 2.0, rtol=1e-4, atol=1e-5)
        model.save(tmp_path / "rm")
        again = load_reward_model(tmp_path / "rm", torch.float32, CPU)
        torch.testing.assert_close(again.scores(batch), (once - 0.5) / 2.0, rtol=1e-4, atol=1e-5)


def test_in_bf16_the_head_stays_in_fp32(tmp_path: Path) -> None:
    model = scorer(tmp_path / "policy")
    model.save(tmp_path / "rm")
    low = load_reward_model(tmp_path / "rm", torch.bfloat16, CPU)
    (batch,) = pack(rows(), 100)
    with torch.no_grad():
        torch.testing.assert_close(low.scores(batch), model.scores(batch), rtol=0.1, atol=0.1)
    assert low.body.module.score.weight.dtype == torch.float32
    assert low.body.module.score.weight.equal(model.masters["score.weight"])
    low.scores(batch).sum().backward()
    low.collect_gradients()
    assert all(master.grad is not None for master in low.masters.values())


def test_other_heads_are_refused(tmp_path: Path) -> None:
    config = tiny_config()
    config.num_labels = 3
    three = AutoModelForSequenceClassification.from_config(config)
    three.save_pretrained(tmp_path / "three")
    with pytest.raises(ModelError, match="makes 3 numbers of a text; a reward model makes one"):
        load_scorer(tmp_path / "three", torch.float32)
    with pytest.raises(ModelError, match="not a model folder"):
        load_scorer(tmp_path / "nothing", torch.float32)
    config.num_labels = 1
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "one")
    weights = tmp_path / "one" / "model.safetensors"
    from safetensors.torch import load_file, save_file

    state = load_file(weights)
    save_file({name: tensor for name, tensor in state.items() if name != "score.weight"}, weights, {"format": "pt"})
    with pytest.raises(ModelError, match=r"first: score\.weight"):
        load_scorer(tmp_path / "one", torch.float32)
