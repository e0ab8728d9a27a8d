"""Supervised fine-tuning's extras: perplexity, patience, noise on the embeddings, smoothing, Muon; and resumption."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.pipelines.parts import tiny_model_folder
from tests.tiny import tiny_model, tiny_tokenizer
from tutelage.config import read_recipe
from tutelage.data.packing import Row, pack
from tutelage.errors import ConfigError
from tutelage.models import Policy, noisy_embeddings
from tutelage.pipelines import resume_run, run_recipe
from tutelage.training import Quiet

RECIPE = """
name = "imitates"
model = "{model}"
compute = "fp32"

[[stage]]
name = "sft"
type = "sft"
source = {{ type = "jsonl", path = "{folder}/train.jsonl" }}
test = {{ type = "jsonl", path = "{folder}/test.jsonl" }}
steps = 12
evaluate_every = 2
sequences_per_step = 4
optimizer = {{ lr = 3e-3 }}
checkpoints = {{ every = 3 }}
"""
EXTRAS = ["sft.neftune=5", "sft.label_smoothing=0.1", "sft.optimizer.type=muon", "sft.optimizer.schedule=wsd"]


def write_recipe(folder: Path) -> Path:
    for name, numbers in (("train", range(0, 20, 2)), ("test", range(1, 9, 2))):
        rows = [{"text": f"The answer is {number}. The answer is not 8."} for number in numbers]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(model=tiny_model_folder(folder / "tiny"), folder=folder))
    return path


def run(folder: Path, *overrides: str, name: str = "run") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    run_recipe(read_recipe(write_recipe(folder), overrides), folder / name, Quiet())
    result = json.loads((folder / name / "stages/01-sft/result.json").read_text())
    return result, [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("extras", [[], EXTRAS], ids=["plain", "extras"])
def test_the_perplexity_of_held_out_texts_falls(extras: list[str], tmp_path: Path) -> None:
    result, metrics = run(tmp_path, *extras)
    told = [line for line in metrics if "perplexity" in line]
    assert [line["step"] for line in told] == [2, 4, 6, 8, 10, 12]
    assert told[-1]["perplexity"] < 0.3 * told[0]["perplexity"]
    assert told[-1]["perplexity"] == pytest.approx(math.exp(told[-1]["test_loss"]))
    assert result["perplexity"] == pytest.approx(told[-1]["perplexity"], rel=1e-6)


def test_it_stops_when_nothing_gets_better_and_leaves_the_best_weights(tmp_path: Path) -> None:
    """At such a rate the texts get likelier at first and then ever less likely."""
    overrides = ["sft.steps=60", "sft.optimizer.lr=0.03", "sft.patience=2", "sft.evaluate_every=1"]
    result, metrics = run(tmp_path, *overrides)
    losses = [line["test_loss"] for line in metrics]
    assert result["steps"] == len(losses) < 60
    best = losses.index(min(losses))
    assert len(losses) == best + 3  # two evaluations after it were no better
    assert result["perplexity"] == pytest.approx(math.exp(losses[best]), rel=1e-5)
    kept = load_file(tmp_path / "run" / result["saved"] / "model.safetensors")
    run(tmp_path, *overrides[1:], f"sft.steps={best + 1}", "sft.patience=50", name="short")
    until = load_file(tmp_path / "short/stages/01-sft/model/model.safetensors")
    assert all(kept[name].equal(until[name]) for name in kept)


@pytest.mark.parametrize("extras", [EXTRAS, ["sft.lora.rank=4", "compute=bf16"]], ids=["extras", "lora"])
def test_a_resumed_run_equals_an_uninterrupted_one(extras: list[str], tmp_path: Path) -> None:
    class Killed(Quiet):
        def step(self, step: int, numbers: Any) -> None:
            if step == 8:
                raise KeyboardInterrupt

    recipe = read_recipe(write_recipe(tmp_path), [*extras, "sft.patience=3"])
    run_recipe(recipe, tmp_path / "whole", Quiet())
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path / "cut", Killed())
    resume_run(tmp_path / "cut", Quiet())
    one, other = ((tmp_path / name / "stages/01-sft/model/model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == other


def test_noise_is_within_its_bound_and_the_same_however_sequences_are_packed() -> None:
    policy = Policy(tiny_model(), tiny_tokenizer(), torch.float32)
    rows = [Row((), tuple(range(5, 5 + length)), number) for number, length in enumerate((4, 16, 9))]
    width = policy.module.get_input_embeddings().weight.shape[1]
    (whole,) = pack(rows, 100)
    with torch.no_grad():
        with noisy_embeddings(policy, whole, 5.0, [7, 8, 9]):
            together = policy.states(whole)
        alone: list[torch.Tensor] = []
        for row, seed in zip(rows, (7, 8, 9), strict=True):
            (batch,) = pack([row], 100)
            with noisy_embeddings(policy, batch, 5.0, [seed]):
                alone.append(policy.states(batch))
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    seen: list[torch.Tensor] = []

    def look() -> Any:
        hook = policy.module.get_input_embeddings().register_forward_hook(lambda *given: seen.append(given[2]))
        with torch.no_grad():
            policy.states(whole)
        hook.remove()

    look()
    with noisy_embeddings(policy, whole, 5.0, [7, 8, 9]):
        look()
    look()
    clean, noisy, again = (values.reshape(-1, width)[: len(whole.tokens_N)] for values in seen)
    assert clean.equal(again)
    for span in whole.spans:
        noise = (noisy - clean)[span.start : span.start + span.length]
        bound = 5.0 / math.sqrt(span.length * width)
        assert 0.9 * bound < noise.abs().max() <= bound * 1.0001
        assert noise.std().item() == pytest.approx(bound / math.sqrt(3.0), rel=0.1)


def test_patience_without_held_out_texts_is_refused(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("test =")))
    with pytest.raises(ConfigError, match="patience: there is nothing to be patient with"):
        read_recipe(path, ["sft.patience=2"])
