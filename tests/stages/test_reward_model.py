"""The `reward-model` stage learns what it is told, reports how far, and is handed on to later stages."""

from __future__ import annotations

import json
import random
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.pipelines.parts import tiny_model_folder
from tests.tiny import tiny_tokenizer
from tutelage.config import read_recipe
from tutelage.errors import ConfigError, DataError
from tutelage.pipelines import run_recipe
from tutelage.training import Quiet

RECIPE = """
name = "scores"
model = "{model}"

[[stage]]
name = "rm"
type = "reward-model"
source = {{ type = "jsonl", path = "{folder}/train.jsonl" }}
test = {{ type = "jsonl", path = "{folder}/test.jsonl" }}
epochs = 4
prompts_per_step = 8
optimizer = {{ lr = 3e-3 }}
"""


def answer(rng: random.Random, sevens: int) -> str:
    digits = ["7"] * sevens + [rng.choice("0123") for _ in range(6 - sevens)]
    rng.shuffle(digits)
    return "".join(digits)


def write_judged(path: Path, prompts: int, seed: int, flipped: bool = False) -> None:
    """Answers of six digits, judged by how many of them are sevens."""
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for number in range(prompts):
        scores = rng.sample(range(6), 3 if number % 2 else 2)
        answers = [answer(rng, score) for score in scores]
        given = [-score for score in scores] if flipped else scores
        rows.append({"prompt": f"write {number % 5}:", "answers": answers, "scores": given})
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")


def follows_length(path: Path) -> float:
    """The correlation of what was judged with the answers' tokens, over both orders of each pair."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    lengths = [[len(tiny_tokenizer().encode(text)) for text in row["answers"]] for row in rows]
    pairs = [
        (row["scores"][i] - row["scores"][j], own[i] - own[j])
        for row, own in zip(rows, lengths, strict=True)
        for i, j in permutations(range(len(own)), 2)
    ]
    return torch.corrcoef(torch.tensor(pairs, dtype=torch.float64).T)[0, 1].item()


def run(folder: Path, *overrides: str, flipped: bool = False) -> dict[str, Any]:
    write_judged(folder / "train.jsonl", 60, 1, flipped)
    write_judged(folder / "test.jsonl", 40, 2)
    model = tiny_model_folder(folder / "tiny")
    (folder / "recipe.toml").write_text(RECIPE.format(model=model, folder=folder))
    run_recipe(read_recipe(folder / "recipe.toml", overrides), folder / "run", Quiet())
    return json.loads((folder / "run/stages/01-rm/result.json").read_text())


def test_it_learns_what_was_judged_better(tmp_path: Path) -> None:
    result = run(tmp_path)
    found = result["agreement"]
    assert found["pairs"] == 20 + 20 * 3
    assert found["accuracy"]["mean"] > 0.85, found
    assert found["accuracy"]["low"] < found["accuracy"]["mean"] < found["accuracy"]["high"]
    close, _, far = found["by_margin"]
    assert far["mean"] >= close["mean"]
    assert (close["least"], far["most"]) == (1.0, 5.0)
    assert 0.0 <= found["calibration_error"] < 0.3
    assert found["length"]["judged"] == pytest.approx(follows_length(tmp_path / "test.jsonl"))
    assert found["length"]["scores"] == pytest.approx(found["length"]["judged"], abs=0.2)  # it agrees with them
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / result["reward_model"])
    assert model.config.num_labels == 1
    metrics = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert metrics[0]["loss"] == pytest.approx(0.6931, abs=1e-3)  # a head of 0 tells nothing apart: log 2
    assert metrics[-1]["accuracy"] > 0.8
    assert len(metrics) == 30


def test_with_the_judgements_turned_it_learns_the_contrary(tmp_path: Path) -> None:
    assert run(tmp_path, flipped=True)["agreement"]["accuracy"]["mean"] < 0.2


@pytest.mark.parametrize("loss", ["regression", "outcome"])
def test_scores_of_single_answers_are_learned_too(loss: str, tmp_path: Path) -> None:
    for name, seed in (("train", 1), ("test", 2)):
        rng = random.Random(seed)
        rows = [
            {"prompt": "write:", "completion": answer(rng, 5 * (i % 2)), "label": bool(i % 2)} for i in range(60)
        ] if name == "train" else [
            {"prompt": "write:", "chosen": answer(rng, 5), "rejected": answer(rng, 0)} for _ in range(20)
        ]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    model = tiny_model_folder(tmp_path / "tiny")
    (tmp_path / "recipe.toml").write_text(RECIPE.format(model=model, folder=tmp_path))
    run_recipe(read_recipe(tmp_path / "recipe.toml", [f"rm.loss.type={loss}"]), tmp_path / "run", Quiet())
    result = json.loads((tmp_path / "run/stages/01-rm/result.json").read_text())
    assert result["agreement"]["accuracy"]["mean"] > 0.9


def test_scores_have_mean_zero_and_deviation_one_afterwards(tmp_path: Path) -> None:
    from tutelage.data import build_judged_source
    from tutelage.models import load_reward_model
    from tutelage.stages.judged import judged_rows, score_rows

    result = run(tmp_path)
    model = load_reward_model(tmp_path / "run" / result["reward_model"], torch.float32, torch.device("cpu"))
    source = build_judged_source({"type": "jsonl", "path": str(tmp_path / "train.jsonl")}, "source")
    rows = [row for i, one in enumerate(source.load_judged()) for row in judged_rows(model.tokenizer, one, i, 99, "")]
    scores = torch.tensor(score_rows(model, rows, 512))
    assert scores.mean().item() == pytest.approx(0.0, abs=0.02)
    assert scores.std().item() == pytest.approx(1.0, abs=0.02)


def test_mistakes_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stage\[0\]\.start: no stage before this one leaves 'sft': known: base"):
        run(tmp_path, "rm.start=sft")
    with pytest.raises(DataError, match=r"must lie between 0 \(bad\) and 1 \(good\)"):
        run(tmp_path, "rm.loss.type=outcome")
    with pytest.raises(DataError, match=r"rm\.source: answer 1 to prompt .* set max_answer_tokens to"):
        run(tmp_path, "rm.tokens_per_microbatch=12")
    with pytest.raises(ConfigError, match=r"rm\.loss\.type: unknown 'bradley'"):
        run(tmp_path, "rm.loss.type=bradley")
