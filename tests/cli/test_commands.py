"""Every command, as a user types it, on a tiny model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.pipelines.parts import EVALUATE, RL, recipe_text, tiny_model_folder
from tutelage.cli.commands import app
from tutelage.config import find_recipe, shipped_recipes
from tutelage.errors import ConfigError


def tutelage(*arguments: str, code: int = 0, typed: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tutelage", *arguments],
        capture_output=True,
        text=True,
        input=typed,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    path = folder / "recipe.toml"
    stages = EVALUATE.replace("judge", "before") + RL + EVALUATE
    path.write_text(recipe_text(tiny_model_folder(folder / "tiny"), stages))
    return path


@pytest.fixture(scope="module")
def run(recipe: Path) -> Path:
    folder = recipe.parent / "run"
    output = tutelage("run", str(recipe), "--out", str(folder), "--set", "reinforce.steps=3")
    assert "[2/3] reinforce step 3/3  reward" in output
    assert f"report: {folder}/report.html" in output
    assert "held-out questions" in output
    return folder


def test_help_is_quick_and_knows_the_commands() -> None:
    text = tutelage("--help")
    for command in ("run", "check", "resume", "evaluate", "chat", "models", "data", "recipes"):
        assert command in text
    loaded = "import sys, tutelage.cli.commands; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", loaded], text=True).strip() == "False"


def test_a_run_leaves_what_the_architecture_says(run: Path) -> None:
    assert (run / "model").resolve() == run / "stages/02-reinforce/model"
    found = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {
        "recipe.json",
        "metrics.jsonl",
        "samples.jsonl",
        "report.html",
        "stages/01-before/result.json",
        "stages/02-reinforce/model/model.safetensors",
        "stages/03-judge/result.json",
    } <= found
    declared = json.loads((run / "recipe.json").read_text())
    assert declared["recipe"]["stage"][1]["steps"] == 3
    assert declared["versions"]["torch"]


def test_plain_transformers_opens_the_model(run: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    module = AutoModelForCausalLM.from_pretrained(run / "model")
    tokens = AutoTokenizer.from_pretrained(run / "model")("2 + 2", return_tensors="pt")
    assert module.generate(**tokens, max_new_tokens=3).shape[1] > tokens["input_ids"].shape[1]


def test_check_prints_what_would_run(recipe: Path) -> None:
    text = tutelage("check", str(recipe))
    assert "9 steps x 6 prompts x 4 completions = 216 samples; 24 a step, 4 updates a step" in text
    assert "reference model: yes" in text


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_passes_check(name: str) -> None:
    """In this process, where what a command imports is there already."""
    checked, printed = (CliRunner().invoke(app, [command, name]) for command in ("check", "recipes"))
    assert (checked.exception, printed.exception) == (None, None)
    assert f"run       {name}" in checked.stdout
    assert f'name = "{name}"' in printed.stdout


def test_the_shipped_recipes_are_listed() -> None:
    listed = tutelage("recipes")
    assert [name for name in shipped_recipes() if name not in listed] == []


def test_a_recipe_is_a_file_or_a_shipped_name() -> None:
    with pytest.raises(ConfigError, match="quikstart: neither a file nor a shipped recipe; did you mean 'quickstart'"):
        find_recipe("quikstart")


def test_resume_of_a_finished_run(run: Path) -> None:
    assert tutelage("resume", str(run)).count("finished before") == 3


def test_evaluate_compares_models_on_the_same_questions(recipe: Path, run: Path) -> None:
    models = [str(recipe.parent / "tiny"), str(run / "model")]
    options = ["--questions", "12", "--max-new-tokens", "5", "--out", str(recipe.parent / "scores")]
    text = tutelage("evaluate", *models, "--environment", f"{recipe}:sums", *options)
    assert "value (95 %)" in text
    assert "change since tiny" in text
    assert f"report: {recipe.parent}/scores/report.html" in text
    small = ["--set", "maximum=4", "--set", "train_questions=10", "--set", "test_questions=9"]
    tutelage("evaluate", models[0], *small, "--max-new-tokens", "4", "--out", str(recipe.parent / "s2"))
    result = json.loads((recipe.parent / "s2/stages/01-evaluate-of-tiny/result.json").read_text())
    assert len(result["scores"]) == 9
    assert "no environment 'sum'" in tutelage("evaluate", models[0], "--environment", f"{recipe}:sum", code=2)


def test_a_suite_says_itself_how_often_it_asks() -> None:
    refused = tutelage("evaluate", "tiny", "--suite", "arithmetic", "--samples", "4", code=2)
    assert "--samples: a suite says so itself; change it with --set STAGE.samples=..." in refused
    assert "did you mean 'arithmetic'?" in tutelage("evaluate", "tiny", "--suite", "arithmetics", code=2)
    assert "sycophancy" in tutelage("suites")
    assert 'name = "arithmetic"' in tutelage("suites", "arithmetic")


def test_chat_answers_once_or_until_an_empty_line(recipe: Path, run: Path) -> None:
    once = tutelage("chat", str(recipe.parent / "tiny"), "--prompt", "2 + 2?", "--max-new-tokens", "4", "--seed", "1")
    again = tutelage("chat", str(recipe.parent / "tiny"), "--prompt", "2 + 2?", "--max-new-tokens", "4", "--seed", "1")
    assert once == again
    talk = tutelage("chat", str(run), "--max-new-tokens", "4", typed="hello\nand now?\n\n")
    assert talk.count("model:") == 2


def test_models_are_listed() -> None:
    text = tutelage("models")
    assert "smollm2-135m-instruct" in text
    assert "qwen2.5-0.5b-instruct" in text
    assert "did you mean 'smollm2-135m-instruct'?" in tutelage("models", "fetch", "smollm-135m-instruct", code=2)


def test_data_sets_are_listed_with_their_parts() -> None:
    text = tutelage("data")
    assert "human-sentiment: " in text
    assert "from: vaderSentiment==3.3.2, chatterbot-corpus==1.3.3" in text
    assert "comparisons-train" in text
    assert "did you mean 'human-sentiment'?" in tutelage("data", "fetch", "human-sentiments", code=2)
