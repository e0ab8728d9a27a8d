"""Process reward models: a stage learns the labels of steps, says how far, and goes on where it was killed."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.pipelines.parts import tiny_model_folder
from tutelage.config import read_recipe
from tutelage.errors import ConfigError, DataError
from tutelage.models import load_reward_model
from tutelage.pipelines import plan_recipe, resume_run, run_recipe
from tutelage.report import build_report, outcome
from tutelage.stages import RewardModelPlan
from tutelage.training import Quiet

RECIPE = """
name = "steps"
model = "{model}"
compute = "fp32"

[[stage]]
name = "prm"
type = "reward-model"
source = {{ type = "jsonl", path = "{folder}/train.jsonl" }}
test = {{ type = "jsonl", path = "{folder}/test.jsonl" }}
loss = {{ type = "outcome" }}
epochs = 8
prompts_per_step = 8
tokens_per_microbatch = 300
optimizer = {{ lr = 3e-3 }}
checkpoints = {{ every = 3, keep = 2 }}
"""


def write_steps(path: Path, answers: int, seed: int, flipped: bool = False) -> None:
    """Answers of one to four steps of three digits. A step with a seven in it is wrong."""
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for number in range(answers):
        wrong = [rng.random() < 0.4 for _ in range(rng.randint(1, 4))]
        steps = ["".join(rng.choices("0123", k=2)) + (rng.choice("7" if bad else "0123")) for bad in wrong]
        labels = [bad == flipped for bad in wrong]
        rows.append({"prompt": f"write {number % 5}:", "completions": steps, "labels": labels})
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")


def prepared(folder: Path, *overrides: str, flipped: bool = False) -> Any:
    write_steps(folder / "train.jsonl", 60, 1, flipped)
    write_steps(folder / "test.jsonl", 40, 2)
    model = tiny_model_folder(folder / "tiny")
    (folder / "recipe.toml").write_text(RECIPE.format(model=model, folder=folder))
    return read_recipe(folder / "recipe.toml", overrides)


def learned(folder: Path, *overrides: str, flipped: bool = False) -> dict[str, Any]:
    run_recipe(prepared(folder, *overrides, flipped=flipped), folder / "run", Quiet())
    return json.loads((folder / "run/stages/01-prm/result.json").read_text())


def test_it_learns_which_steps_are_right(tmp_path: Path) -> None:
    result = learned(tmp_path)
    found = result["step_agreement"]
    assert (found["answers"], found["steps"]) == (40, 99)
    assert found["accuracy"]["low"] > 0.75, found
    assert found["first_error"]["f1"] > 0.6, found
    assert found["calibration_error"] < 0.3
    metrics = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert metrics[0]["loss"] == pytest.approx(0.6931, abs=1e-3)  # a head of 0 finds nothing probable: log 2
    model = load_reward_model(tmp_path / "run" / result["reward_model"], torch.float32, torch.device("cpu"))
    assert (model.separator, model.mean) == ("\n", 0.0)  # its scores are log-odds still
    page = build_report(tmp_path / "run").read_text()
    assert "First wrong step named" in page
    assert outcome(tmp_path / "run").startswith("Judged as labelled, held out: prm ")


def test_with_the_labels_turned_it_learns_the_contrary(tmp_path: Path) -> None:
    found = learned(tmp_path, flipped=True)["step_agreement"]
    assert found["accuracy"]["high"] < 0.25, found
    assert found["first_error"]["f1"] < 0.2


def test_a_killed_stage_ends_as_one_that_was_not(tmp_path: Path) -> None:
    class Killed(Quiet):
        def step(self, step: int, numbers: Any) -> None:
            if step == 5:
                raise KeyboardInterrupt

    recipe = prepared(tmp_path, "prm.steps=7")
    run_recipe(recipe, tmp_path / "whole", Quiet())
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path / "cut", Killed())
    resume_run(tmp_path / "cut", Quiet())
    for name in ("model/model.safetensors", "model/config.json", "result.json"):
        one, other = ((tmp_path / run / "stages/01-prm" / name).read_bytes() for run in ("whole", "cut"))
        assert one == other


def test_the_actions_of_an_answer_are_the_ends_of_its_steps(tmp_path: Path) -> None:
    (plan,) = plan_recipe(prepared(tmp_path)).stages
    assert isinstance(plan, RewardModelPlan)
    model = load_reward_model(tmp_path / "tiny", torch.float32, torch.device("cpu"))
    rows = [rows[0] for rows in plan.rows("source", model.tokenizer, 256)]
    for row, judged in zip(rows, plan.judged, strict=True):
        assert row.fields["judged"] == judged.scores
        texts = [model.tokenizer.decode(row.tokens[: place + 1]) for place in row.actions]
        whole = "\n".join(judged.answers)
        assert texts == [
            *("\n".join(judged.answers[: i + 1]) + "\n" for i in range(len(texts) - 1)),
            whole + "<|im_end|>",
        ]


def test_longer_answers_are_cut_by_whole_steps(tmp_path: Path) -> None:
    (plan,) = plan_recipe(prepared(tmp_path, "prm.max_answer_tokens=9")).stages
    assert isinstance(plan, RewardModelPlan)
    model = load_reward_model(tmp_path / "tiny", torch.float32, torch.device("cpu"))
    for (row,), judged in zip(plan.rows("source", model.tokenizer, 256), plan.judged, strict=True):
        steps = len(row.actions)
        assert row.actions[-1] == len(row.tokens) - 1 < 9
        kept = "\n".join(judged.answers[:steps]) + ("<|im_end|>" if steps == len(judged.scores) else "\n")
        assert model.tokenizer.decode(row.tokens) == kept
        assert row.fields["judged"] == judged.scores[:steps]
    with pytest.raises(DataError, match=r"prm\.source: the first step of .* tokens, more than max_answer_tokens = 2"):
        plan_recipe(prepared(tmp_path, "prm.max_answer_tokens=2"))


MISTAKES = [
    ("prm.loss.type=bradley-terry", r"prm\.loss: 'bradley-terry' gives a step no probability .* type = 'outcome'"),
    ("prm.loss.type=regression", r"prm\.loss: 'regression' gives a step no probability"),
    ("prm.separator=''", r"separator: .*at least 1 character"),
    ("prm.separator='0'", r"prm\.source: the answer of .* has \d labels, and its tokens have \d steps that end with"),
    ("prm.tokens_per_microbatch=12", r"prm\.source: the answer of .* has .* set max_answer_tokens to"),
]


@pytest.mark.parametrize(("override", "message"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_mistakes_are_refused_before_anything_is_loaded(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        plan_recipe(prepared(tmp_path, override))


WHOLE = {"prompt": "write:", "chosen": "012", "rejected": "777"}
STEPS = {"prompt": "write:", "completions": ["012", "777"], "labels": [True, False]}


def test_steps_and_whole_answers_are_kept_apart(tmp_path: Path) -> None:
    recipe = prepared(tmp_path)
    (tmp_path / "train.jsonl").write_text(json.dumps(WHOLE) + "\n" + json.dumps(STEPS) + "\n")
    with pytest.raises(DataError, match=r"prm\.source: .*train\.jsonl:2' has the steps of one answer, and .*:1' whole"):
        plan_recipe(recipe)
    (tmp_path / "train.jsonl").write_text(json.dumps(WHOLE) + "\n")
    with pytest.raises(ConfigError, match=r"prm\.test: steps were judged here, and whole answers in source"):
        plan_recipe(recipe)
    (tmp_path / "test.jsonl").write_text(json.dumps(WHOLE) + "\n")
    with pytest.raises(ConfigError, match=r"prm\.separator: whole answers were judged, not their steps"):
        plan_recipe(read_recipe(tmp_path / "recipe.toml", ["prm.loss.type=bradley-terry", "prm.separator=;"]))


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_a_preference_stage_refuses_steps(tmp_path: Path, loss: str) -> None:
    prepared(tmp_path)
    text = (tmp_path / "recipe.toml").read_text().replace('type = "reward-model"', 'type = "preference"')
    (tmp_path / "recipe.toml").write_text(text.replace('type = "outcome"', f'type = "{loss}"'))
    with pytest.raises(
        ConfigError, match=rf"prm\.source: holds the steps of answers, and '{loss}' learns from whole ones"
    ):
        plan_recipe(read_recipe(tmp_path / "recipe.toml"))
