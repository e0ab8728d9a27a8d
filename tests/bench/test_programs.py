"""Our measured programs run a step on a tiny model, say what they did, and are built of the library's own pieces."""

from __future__ import annotations

import ast
import json
import math
import platform
from pathlib import Path

import pytest

from bench import family
from bench.__main__ import measure, tables
from bench.alternate import ROOT
from bench.inputs import Writer, model_folder
from bench.settings import Settings


def test_a_grpo_step_of_ours(tmp_path: Path) -> None:
    measure("grpo", Settings(peer=None, steps=1, warmup=0, quick=True), tmp_path)
    text = (tmp_path / "grpo.json").read_text()
    (row,) = json.loads(text)["rows"]
    ours = row["ours"]
    assert ours["phases"]["tokens"] == 2 * 4 * 99  # nothing ends early, though one token in 256 is an end token
    assert ours["prompt_tokens"] == 2 * 5
    assert 0.0 < ours["phases"]["reward"] < 1.0
    assert ours["parameters"] == {"body": 18592, "head": 256 * 32}
    timed = ours["phases"]["generate_seconds"] + ours["phases"]["learn_seconds"]
    assert 0 < timed <= ours["phases"]["step_seconds"] <= ours["median_seconds"]
    assert 0.1 < ours["peak_gb"] < 4
    assert "2 x 4 x 99, prompts of 5" in next(tables(tmp_path))
    for secret in (str(ROOT), str(Path.home()), platform.node()):  # results are published
        assert secret not in text


@pytest.mark.parametrize("name", ["sft", "dpo"])
def test_a_learning_step_of_ours(tmp_path: Path, name: str) -> None:
    measure(name, Settings(peer=None, steps=1, warmup=0, quick=True), tmp_path)
    rows = json.loads((tmp_path / f"{name}.json").read_text())["rows"]
    assert ["LoRA" in row["case"] for row in rows] == {"sft": [False, True], "dpo": [False]}[name]
    for row in rows:
        # sft: 4 texts of 11 words and their end on average, less the first of each; dpo: 6 answers of 6 and an end.
        assert row["ours"]["learned_tokens"] == {"sft": 4 * 11, "dpo": 6 * 7}[name]
        expected = {"sft": math.log(256), "dpo": math.log(2)}[name]
        assert row["ours"]["phases"]["loss"] == pytest.approx(expected, abs=0.1)


def test_a_control_training_of_ours(tmp_path: Path) -> None:
    measure("control", Settings(peer=None, steps=1, quick=True), tmp_path)
    (row,) = json.loads((tmp_path / "control.json").read_text())["rows"]
    assert row["total"] == 2 * 8 * 32
    assert 5 < row["ours"]["scores"][0] < 501
    assert row["ours"]["steps_per_second"][0] == pytest.approx(512 / row["ours"]["phases"]["train_seconds"], rel=0.01)
    assert "CartPole-v1, PPO | 1 |" in next(tables(tmp_path))


def test_the_family_of_ours(tmp_path: Path) -> None:
    measure("family", Settings(peer=None, steps=1, quick=True), tmp_path)
    rows = {row["case"]: row for row in json.loads((tmp_path / "family.json").read_text())["rows"]}
    assert all(row["groups"] == [2.0, 2.0] and 0.0 < min(row["reward"]) < 1.0 for row in rows.values())
    assert all(0.0 < moved <= 0.01 for moved in rows["TRPO"]["moved"])
    assert len(rows["TRPO"]["moved"]) == 2
    assert "| DAPO | 1 |" in next(tables(tmp_path))


def test_one_case_is_measured_again_and_the_others_stay(tmp_path: Path) -> None:
    others = [{"case": "TRPO", "seed": 0}, {"case": "GRPO", "seed": 0, "old": True}, {"case": "DAPO", "seed": 0}]
    (tmp_path / "family.json").write_text(json.dumps({"rows": others}))
    measure("family", Settings(peer=None, steps=1, quick=True, case="GRPO"), tmp_path)
    rows = json.loads((tmp_path / "family.json").read_text())["rows"]
    assert [row["case"] for row in rows] == ["TRPO", "GRPO", "DAPO"]
    assert "old" not in rows[1]
    assert len(rows[1]["reward"]) == 2


def test_rewards_are_those_of_equal_samples() -> None:
    """Steps of 2 and of 4 samples: the third and fourth are of the first one's second step."""
    every = {"case": "a", "seed": 0, "completions": 2, "moved": [], "step_seconds": 1.0, "peak_gb": 1.0}
    rows = [
        {**every, "reward": [0.1, 0.3, 0.5, 0.7], "groups": [1.0, 1.0, 1.0, 1.0]},
        {**every, "case": "b", "reward": [0.2, 0.6], "groups": [2.0, 2.0]},
    ]
    lines = family.show(rows).splitlines()
    assert lines[0].startswith("| algorithm | seeds | samples 1 to 2 | samples 3 to 4 |")
    assert [cell.split()[0] for cell in lines[2].split("|")[3:7]] == ["0.10", "0.30", "0.50", "0.70"]
    assert [cell.split()[0] for cell in lines[3].split("|")[3:7]] == ["0.20", "0.20", "0.60", "0.60"]


def test_texts_have_exactly_so_many_tokens() -> None:
    model = model_folder("tiny")
    writer = Writer(model)
    texts = [writer.text(9) for _ in range(20)]
    assert len(set(texts)) == 20
    assert all(len(text.split()) == 9 for text in texts)  # a made-up word is a token
    assert [Writer(model, 1).text(9) for _ in range(2)] == [Writer(model, 1).text(9) for _ in range(2)]
    lengths = writer.lengths(17, mean=50, spread=20)
    assert sum(lengths) == 17 * 50
    assert 30 <= min(lengths) < 50 < max(lengths) <= 70


def imported(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


@pytest.mark.parametrize(("folder", "never"), [("peer", ("tutelage", "bench.ours")), ("ours", ("trl", "bench.peer"))])
def test_neither_side_imports_the_other(folder: str, never: tuple[str, ...]) -> None:
    files = sorted((ROOT / "bench" / folder).glob("*.py"))
    assert len(files) >= 5
    found = {name for path in [*files, ROOT / "bench/pace.py", ROOT / "bench/worth.py"] for name in imported(path)}
    assert not [name for name in found if name.startswith(never)]
