"""A whole training in a gymnasium environment for each step: our control stage, then 20 greedy episodes."""

from __future__ import annotations

from tutelage.cli.process import prepare_process

prepare_process()  # before torch is loaded

import json
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from bench.pace import each_seed
from tutelage.config import Recipe
from tutelage.pipelines import run_recipe
from tutelage.training import Quiet


def recipe_of(spec: dict[str, Any], seed: int) -> Recipe:
    each = spec["copies"] * spec["length"]
    control = {
        "type": "control",
        "name": "learn",
        "environment": "it",
        "algorithm": spec["algorithm"],
        "steps": spec["total"] // each,
        "copies": spec["copies"],
        "length": spec["length"],
        "epochs": spec["epochs"],
        "transitions_per_update": spec["transitions_per_update"],
        "hidden": [64, 64],
        "normalise_observations": spec["normalise"],
        "normalise_rewards": spec["normalise"],
        "optimizer": {
            "lr": spec["lr"],
            "schedule": spec["schedule"],
            "final_lr_share": 0.0,
            "eps": 1e-5,
            "max_grad_norm": 0.5,
        },
        "checkpoints": {"every": 10**6},
    }
    play = {"type": "play", "name": "play", "environment": "it", "episodes": 20}
    environments = {"it": {"type": "gymnasium", "id": spec["id"]}}
    return Recipe.model_validate(
        {"name": "bench", "seed": seed, "environments": environments, "stage": [control, play]}
    )


def train(spec: dict[str, Any], seed: int) -> tuple[float, float]:
    """Seconds of the training, and the mean return afterwards."""
    with TemporaryDirectory() as name:
        folder = Path(name) / "run"
        run_recipe(recipe_of(spec, seed), folder, Quiet())
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        scores = json.loads((folder / "stages/02-play/result.json").read_text())["scores"]
    return sum(line["step_seconds"] for line in lines), mean(returns[0] for returns in scores.values())


if __name__ == "__main__":
    each_seed(train)
