"""Whole runs learn, and would not if the sign were wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pipelines.parts import RL, SFT, recipe_text, tiny_model_folder
from tutelage.config import read_recipe
from tutelage.errors import FailedSamplesError
from tutelage.pipelines import run_recipe
from tutelage.training import Quiet

# From about a fifth of digits at the start to nearly only digits within these steps.
LEARN = [
    "reinforce.steps=15",
    "reinforce.completions_per_prompt=8",
    "reinforce.optimizer.lr=0.01",
    "reinforce.epochs=1",
    "reinforce.updates_per_epoch=1",
    "reinforce.guards={kl='off', credit='off', reward='off'}",  # so small a model goes far, and a wrong sign is meant
]


def run(folder: Path, stages: str, *overrides: str) -> list[dict[str, float]]:
    folder.mkdir(exist_ok=True)
    path = folder / "recipe.toml"
    path.write_text(recipe_text(tiny_model_folder(folder / "tiny"), stages))
    run_recipe(read_recipe(path, overrides), folder / "run", Quiet())
    return [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo", "rloo", "reinforce"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_reinforcement_raises_the_reward(kind: str, seed: int, tmp_path: Path) -> None:
    metrics = run(tmp_path, RL, *LEARN, f'reinforce.algorithm={{type="{kind}"}}', f"seed={seed}")
    assert metrics[-1]["reward"] > metrics[0]["reward"] + 0.3


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_wrong_sign_lowers_it(seed: int, tmp_path: Path) -> None:
    wrong = 'reinforce.algorithm={type="tests.pipelines.parts:WrongSign"}'
    metrics = run(tmp_path, RL, *LEARN, wrong, f"seed={seed}")
    assert metrics[-1]["reward"] < metrics[0]["reward"] - 0.02


def test_imitation_lowers_the_loss(tmp_path: Path) -> None:
    metrics = run(tmp_path, SFT, "imitate.steps=30", "imitate.optimizer.lr=0.01")
    assert metrics[-1]["loss"] < 0.5 * metrics[0]["loss"]


def test_several_updates_a_step_and_micro_batches_agree_with_the_record(tmp_path: Path) -> None:
    """Off-policy steps score the behaviour once, before any update: the gap to the sampler stays rounding."""
    metrics = run(tmp_path, RL, "reinforce.steps=4", "reinforce.optimizer.lr=0.01")
    assert all(line["mismatch"] < 1e-5 and line["mismatch_max"] < 1e-4 for line in metrics)
    assert any(line["clipped"] > 0 for line in metrics)  # later updates do leave the clip range
    samples = [json.loads(line) for line in (tmp_path / "run/samples.jsonl").read_text().splitlines()]
    for line in metrics:
        rewards = [sample["reward"] for sample in samples if sample["step"] == line["step"]]
        assert line["reward"] == pytest.approx(sum(rewards) / len(rewards), abs=1e-6)
        assert line["kl"] >= 0
    assert metrics[-1]["kl"] > 0.05  # the reference stays, the policy leaves


def test_failed_rewards_are_left_out_and_too_many_stop_the_run(tmp_path: Path) -> None:
    failing = 'reinforce.rewards=[{type="function", function="tests.pipelines.rewards:fails_on_odd_samples"}]'
    with pytest.raises(
        FailedSamplesError, match=r"12 of the step's 24 .* the first: function: raised RuntimeError: the g"
    ):
        run(tmp_path, RL, failing)
    metrics = run(tmp_path / "allowed", RL, failing, "reinforce.max_failed_share=0.6", "reinforce.steps=2")
    assert [line["failed"] for line in metrics] == [12, 12]
    samples = [json.loads(line) for line in (tmp_path / "allowed/run/samples.jsonl").read_text().splitlines()]
    odd = [sample for sample in samples if sample["index"] % 2]
    assert all(sample["reward"] is None and "the grader is tired" in sample["failure"] for sample in odd)
    assert metrics[0]["tokens"] == sum(s["tokens"] for s in samples if s["step"] == 1 and s["reward"] is not None)
