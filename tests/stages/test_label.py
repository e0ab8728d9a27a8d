"""The policy's own answers as data: iterative DPO, a reward model of its own answers, rejection sampling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.parts import recipe_text, tiny_model_folder
from tutelage.config import read_recipe
from tutelage.errors import ConfigError, FailedSamplesError, NothingToLearnError
from tutelage.pipelines import plan_recipe, resume_run, run_recipe
from tutelage.training import Quiet

LABEL = """
[[stage]]
name = "{name}"
type = "label"
environment = "sums"
questions = 24
answers = 4
rewards = [{{ type = "function", function = "tests.pipelines.rewards:share_of_digits" }}]
sampling = {{ max_new_tokens = 6 }}
"""
DPO = """
[[stage]]
name = "{name}"
type = "preference"
source = {{ type = "stage", stage = "{source}" }}
epochs = 3
prompts_per_step = 8
optimizer = {{ lr = 3e-3 }}
"""
SFT = """
[[stage]]
name = "best"
type = "sft"
source = { type = "stage", stage = "first", least = 0.1 }
epochs = 4
sequences_per_step = 8
optimizer = { lr = 3e-3 }
"""
RM = """
[[stage]]
name = "rm"
type = "reward-model"
keep = true
source = { type = "stage", stage = "first" }
prompts_per_step = 8
"""
COMPARE = """
[[stage]]
name = "whose"
type = "compare"
environment = "sums"
contestants = [{ model = "base" }, { model = "%s" }]
rewards = [{ type = "function", function = "tests.pipelines.rewards:share_of_digits" }]
samples = 4
sampling = { max_new_tokens = 6 }
"""


def write(folder: Path, stages: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(recipe_text(tiny_model_folder(folder / "tiny"), stages))
    return path


def result(folder: Path, stage: str) -> dict[str, Any]:
    return json.loads((folder / "run/stages" / stage / "result.json").read_text())


def test_iterative_dpo_gets_better_with_each_round(tmp_path: Path) -> None:
    rounds = LABEL.format(name="first") + DPO.format(name="once", source="first")
    rounds += LABEL.format(name="second") + DPO.format(name="twice", source="second")
    path = write(tmp_path, rounds + COMPARE % "twice")
    lines = list(plan_recipe(read_recipe(path)).lines())
    assert any("4 answers to each of 24 prompts of sums/train" in line for line in lines)
    assert any("dpo, 8 prompts, 3 epochs of what stage 'first' will leave" in line for line in lines)
    run_recipe(read_recipe(path), tmp_path / "run", Quiet())
    first, second = result(tmp_path, "01-first"), result(tmp_path, "03-second")
    assert (first["prompts"], first["answers"]) == (24, 96)
    assert second["reward"] > 1.5 * first["reward"]
    won = result(tmp_path, "05-whose")["contestants"]["twice"]["beats"]["base"]["function"]
    assert won["low"] > 0.5
    rows = [json.loads(line) for line in (tmp_path / "run" / first["judged"]).read_text().splitlines()]
    assert all(len(row["answers"]) == len(row["scores"]) for row in rows)
    assert rows[0]["messages"][-1]["role"] == "user"


def test_rejection_sampling_imitates_the_best_and_a_reward_model_learns_from_all(tmp_path: Path) -> None:
    path = write(tmp_path, LABEL.format(name="first") + RM + SFT + COMPARE % "best")
    run_recipe(read_recipe(path), tmp_path / "run", Quiet())
    assert result(tmp_path, "04-whose")["contestants"]["best"]["beats"]["base"]["function"]["mean"] > 0.55
    assert "reward_model" in result(tmp_path, "02-rm")


def test_a_run_that_stops_after_the_labels_goes_on_with_them(tmp_path: Path) -> None:
    class Killed(Quiet):
        def step(self, step: int, numbers: Any) -> None:
            raise KeyboardInterrupt

    path = write(tmp_path, LABEL.format(name="first") + DPO.format(name="once", source="first"))
    run_recipe(read_recipe(path), tmp_path / "whole", Quiet())
    with pytest.raises(KeyboardInterrupt):
        run_recipe(read_recipe(path), tmp_path / "cut", Killed())
    resume_run(tmp_path / "cut", Quiet())
    one, other = ((tmp_path / n / "stages/02-once/model/model.safetensors").read_bytes() for n in ("whole", "cut"))
    assert one == other


def test_mistakes_are_refused(tmp_path: Path) -> None:
    later = write(tmp_path, DPO.format(name="once", source="first") + LABEL.format(name="first"))
    with pytest.raises(ConfigError, match=r"stage\[0\]\.source\.stage: 'first' comes after this stage"):
        plan_recipe(read_recipe(later))
    stages = LABEL.format(name="first") + DPO.format(name="once", source="first")
    path = write(tmp_path, stages)
    with pytest.raises(ConfigError, match=r"once\.source: wanted .* did you mean 'first'"):
        plan_recipe(read_recipe(path, ["once.source.stage=frist"]))
    failing = ["first.rewards=[{type='function',function='tests.pipelines.rewards:nothing'}]"]
    with pytest.raises((FailedSamplesError, ConfigError), match=r"could not be judged|has no 'nothing'"):
        run_recipe(read_recipe(path, failing), tmp_path / "failing", Quiet())
    same = ["first.rewards=[{type='length',maximum=99}]"]
    with pytest.raises(NothingToLearnError, match="to no prompt were two answers judged apart"):
        run_recipe(read_recipe(path, same), tmp_path / "same", Quiet())
