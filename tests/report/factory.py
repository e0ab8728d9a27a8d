"""A run's folder as the stages would leave it, made in a moment: evaluate -> rl -> evaluate on arithmetic."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

RECIPE: dict[str, Any] = {
    "name": "quickstart",
    "model": "smollm2-135m-instruct",
    "seed": 0,
    "environments": {"sums": {"type": "arithmetic", "operators": ["+", "-", "*"], "digits": 2}},
    "stage": [
        {"type": "evaluate", "name": "before", "environment": "sums", "split": "test", "samples": 1,
         "sampling": {"temperature": 0.0}, "rewards": [{"type": "task"}]},
        {"type": "rl", "name": "learn", "environment": "sums", "split": "train", "steps": 30},
        {"type": "evaluate", "name": "after", "environment": "sums", "split": "test", "samples": 1,
         "sampling": {"temperature": 0.0}, "rewards": [{"type": "task"}]},
    ],
}  # fmt: skip
FAILURES = ("timeout: the reward took more than 10 s", "numeric: no number in the answer")


def write_run(
    folder: Path, questions: int = 200, steps: int = 30, until: str = "after", recipe: dict[str, Any] = RECIPE
) -> Path:
    """Writes a run that got as far as the stage `until` (or `""`: nothing but its recipe)."""
    chance = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "recipe.json", {
        "recipe": recipe,
        "versions": {"tutelage": "0.1.0", "torch": "2.13.0"},
        "machine": {"platform": "Linux", "processor": "a processor", "cores": 2},
    })  # fmt: skip
    names = [stage["name"] for stage in recipe["stage"]]
    for number, stage in enumerate(recipe["stage"][: names.index(until) + 1 if until else 0], start=1):
        if stage["type"] == "evaluate":
            right = 0.48 if number == 1 else 0.9
            result = evaluation(folder, stage, questions, right, chance)
        else:
            for step in range(1, steps + 1):
                training_step(folder, stage["name"], step, step / steps, chance)
            result = {"type": "rl", "steps": steps, "saved": f"stages/{number:02d}-{stage['name']}/model"}
        write_json(folder / "stages" / f"{number:02d}-{stage['name']}" / "result.json", result)
    return folder


def evaluation(
    folder: Path, stage: dict[str, Any], questions: int, right: float, chance: random.Random
) -> dict[str, Any]:
    scores: dict[str, list[float | None]] = {}
    for i in range(questions):
        a, b = 11 + i % 80, 5 + (i * 7) % 60
        won = chance.random() < right
        failure = FAILURES[1] if i == 17 else None
        scores[f"sums-test-{i}"] = [None if failure else float(won)]
        add_sample(
            folder, stage["name"], 0, f"sums-test-{i}", 0, f"{a} + {b} = ?\nAnswer with just the number.", str(a + b),
            str(a + b) if won else f"The answer is {a + b - chance.randint(1, 9)}.", float(won), failure,
        )  # fmt: skip
    values = [s[0] for s in scores.values() if s[0] is not None]
    mean = sum(values) / len(values) if values else 0.0
    return {
        "type": "evaluate", "stage": stage["name"], "environment": stage["environment"], "split": stage["split"],
        "model": "smollm2", "greedy": True, "questions": questions, "samples": 1, "scores": scores,
        "summary": {"score": {"mean": mean, "low": 0.0, "high": 1.0, "n": len(values)}, "failed": 1,
                    "length": 5.3, "truncated": 0.02},
        "components": {"task": mean}, "seconds": 23.4, "tokens_per_second": 812.0,
    }  # fmt: skip


def training_step(folder: Path, stage: str, step: int, way: float, chance: random.Random) -> None:
    level = 0.2 + 0.65 / (1 + math.exp(-10 * (way - 0.35)))
    noisy = lambda size: chance.gauss(0, size)  # noqa: E731
    numbers = {
        "loss": noisy(0.02), "grad_norm": 1.8 - way + abs(noisy(0.3)), "lr": 1e-5, "reward": level + noisy(0.05),
        "score": level + noisy(0.05), "entropy": 0.9 - 0.7 * way + noisy(0.04), "kl": 0.03 * way + abs(noisy(0.002)),
        "length": 7 - 2 * way + noisy(0.2), "truncated": max(0.0, 0.2 * (1 - 2 * way)), "clipped": abs(noisy(0.01)),
        "mismatch": 1e-3 + abs(noisy(2e-4)), "mismatch_max": 0.02 + abs(noisy(0.01)), "failed": 1.0,
        "tokens_per_second": 800 + noisy(30), "zero_spread_groups": 0.1 + 0.4 * way, "distinct": 0.8 - 0.5 * way,
        "generate_seconds": 5.0, "reward_seconds": 0.1, "learn_seconds": 6.0 + noisy(0.2), "step_seconds": 11.2,
    }  # fmt: skip
    append(folder / "metrics.jsonl", {"stage": stage, "step": step, "seconds": 11.2 * step, **numbers})
    for i in range(8):
        a, b = chance.randint(2, 99), chance.randint(2, 99)
        for index in range(8):
            won = chance.random() < level
            failure = FAILURES[0] if (i, index) == (3, 3) else None
            add_sample(
                folder, stage, step, f"sums-train-{step}-{i}", index, f"{a} − {b} = ?", str(a - b),
                str(a - b) if won else str(a - b + chance.randint(1, 12)), float(won), failure,
            )  # fmt: skip


def inspected_step(folder: Path, stage: str, step: int, samples: list[dict[str, Any]], number: int = 2) -> None:
    path = folder / "stages" / f"{number:02d}-{stage}" / "inspect" / f"step-{step:06d}.json"
    write_json(path, {"stage": stage, "step": step, "algorithm": "grpo", "samples": samples})


def inspected(text: str = "4 2", **changes: Any) -> dict[str, Any]:
    """A sample's tokens, a character each, as the stage would write them."""
    size = len(text)
    columns = {
        name: [round(start + 0.1 * i, 3) for i in range(size)]
        for name, start in (("sampler", -2.0), ("learner", -1.9), ("ratio", 0.8), ("advantage", -0.5), ("push", -0.1),
                            ("entropy", 0.5), ("mismatch", 0.0), ("kl", 0.0))
    }  # fmt: skip
    return {
        "prompt_id": "sums-1", "index": 0, "prompt": "40 + 2 = ?", "answer": "42", "pieces": list(text), "left_out": 0,
        "finish": "stop", "reward": 1.0, "rewards": {"task": 1.0, "format": 0.5}, "failure": None, "skipped": False,
        "expert": False, "columns": columns, "fates": [i % 7 for i in range(size)], **changes,
    }  # fmt: skip


def add_sample(
    folder: Path, stage: str, step: int, prompt_id: str, index: int, prompt: str, answer: str | None, text: str,
    reward: float, failure: str | None = None,
) -> None:  # fmt: skip
    append(folder / "samples.jsonl", {
        "stage": stage, "step": step, "prompt_id": prompt_id, "index": index, "prompt": prompt, "answer": answer,
        "text": text, "tokens": max(1, len(text) // 3), "finish": "stop", "reward": None if failure else reward,
        "rewards": {} if failure else {"task": reward, "format": 1.0}, "failure": failure, "version": step,
    })  # fmt: skip


def append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
