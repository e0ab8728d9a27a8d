"""Suites: what they refuse, what they make of models, and the table that `tutelage evaluate` prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.pipelines.parts import tiny_model_folder
from tests.tiny import tiny_model, tiny_tokenizer
from tutelage.cli.evaluate import Results, evaluate_models, remarks, score_rows, score_table
from tutelage.config import model_labels, read_suite, shipped_suites
from tutelage.errors import ConfigError
from tutelage.models.loading import save
from tutelage.pipelines import plan_recipe
from tutelage.report.read import read_run
from tutelage.report.story import evaluation_tables
from tutelage.training import Quiet

SUITE = """
name = "small"

[each]
operator = ["+", "-"]

[environments."sums{operator}"]
type = "arithmetic"
operators = ["{operator}"]
maximum = 9
train_questions = 5
test_questions = 12

[[stage]]
name = "sampled"
type = "evaluate"
environment = "sums+"
samples = 4
metrics = ["pass@2", "maj@3", "best@4 digits"]
rewards = [
    { type = "task" },
    { type = "function", function = "tests.pipelines.rewards:share_of_digits", name = "digits", weight = 0.0 },
    { type = "refusal", weight = 0.0 },
]
sampling = { temperature = 1.0, max_new_tokens = 5 }

[[stage]]
name = "texts"
type = "perplexity"
source = { type = "jsonl", path = "TEXTS" }
context = 64

[[stage]]
name = "who-wins"
type = "compare"
environment = "sums-"
rewards = [{ type = "function", function = "tests.pipelines.rewards:share_of_digits", name = "digits" }]
sampling = { temperature = 1.0, max_new_tokens = 5 }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    tiny_model_folder(folder / "tiny")
    save(tiny_model(seed=1), tiny_tokenizer(), folder / "run" / "model")
    rows = [{"text": f"What is {i} + {i}? The answer is {2 * i}."} for i in range(8)]
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "small.toml").write_text(SUITE.replace("TEXTS", str(folder / "texts.jsonl")))
    return folder


@pytest.fixture(scope="module")
def models(folder: Path) -> list[str]:
    return [str(folder / "tiny"), str(folder / "run" / "model")]


@pytest.fixture(scope="module")
def results(folder: Path, models: list[str]) -> Results:
    return evaluate_models(read_suite(folder / "small.toml"), models, 0, folder / "out", Quiet())


def test_every_model_is_asked_the_same(results: Results) -> None:
    assert {name: len(found) for name, found in results.items()} == {"sampled": 2, "texts": 2, "who-wins": 1}
    first, second = results["sampled"]
    assert first["scores"].keys() == second["scores"].keys()
    assert results["texts"][0]["by_text"]["bytes"] == results["texts"][1]["by_text"]["bytes"]
    assert results["texts"][0]["bits_per_byte"] != results["texts"][1]["bits_per_byte"]


def test_every_measure_has_its_interval(results: Results) -> None:
    metrics = results["sampled"][0]["metrics"]
    assert metrics.keys() == {"length", "truncated", "task", "digits", "refusal", "pass@2", "maj@3", "best@4 digits"}
    assert all(one["low"] <= one["mean"] <= one["high"] for one in metrics.values())
    assert "camp" not in results["sampled"][0]["components"]
    texts = results["texts"][0]
    assert texts["perplexity"]["low"] < texts["perplexity"]["mean"] < texts["perplexity"]["high"]


def test_every_change_has_its_test_and_all_are_corrected_together(models: list[str], results: Results) -> None:
    rows = score_rows(models, results)
    changes = [row.change for row in rows if row.change is not None]
    assert len(changes) == 8  # score, three components, three metrics, bits a byte
    assert {change.tests for change in changes} == {8}
    console = Console(width=220, record=True)
    console.print(score_table(models, rows))
    assert "Holm, 8 tests" in (text := console.export_text())
    assert "bits a byte" in text
    told = list(remarks(rows, results, 0.01))
    assert any("questions a change below" in line and "to see 1 points takes about" in line for line in told)
    assert any("run beats tiny in" in line and "by digits, p" in line for line in told)


def test_the_report_has_the_models_beside_each_other(folder: Path, results: Results) -> None:
    (table,) = evaluation_tables(read_run(folder / "out"))
    assert [row.stage.name for row in table.rows] == ["sampled-of-tiny", "sampled-of-run"]
    assert "(" in table.rows[1].components["maj@3"]


def test_a_killed_evaluation_goes_on(folder: Path, models: list[str], results: Results) -> None:
    again = evaluate_models(read_suite(folder / "small.toml"), models, 0, folder / "out", Quiet())
    assert again == results


def test_one_model_is_not_compared(folder: Path) -> None:
    recipe = read_suite(folder / "small.toml").of_models([str(folder / "tiny")])
    assert [stage.name for stage in recipe.stage] == ["sampled-of-tiny", "texts-of-tiny"]


def test_placeholders_are_filled() -> None:
    recipe = read_suite(shipped_suites()["reasoning-gym"], ['each.task=["leg_counting", "chain_sum"]']).of_models(["m"])
    assert [stage.name for stage in recipe.stage] == ["leg-counting-of-m", "chain-sum-of-m"]
    assert recipe.environments["chain_sum"]["task"] == "chain_sum"


def test_labels_are_short_and_differ() -> None:
    assert model_labels(["SmolLM2.5", "runs/a/model", "runs/b/model", "other/a", "base"]) == [
        "smollm2-5", "a", "b", "a-4", "base-5",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ('type = "evaluate"', r"stage\[0\].type: a suite's stages only report.*given: 'rl'"),
        ("samples = 4", r"metrics: maj@3 takes 3 samples"),
        ("best@4 digits", r"metrics: 'best@4 size' chooses by a reward of the stage"),
        ("context = 64", r"stage\[1\].start: the models are those of the command line"),
        ('temperature = 1.0, max_new_tokens = 5 }\n\n[[stage]]\nname = "texts"', "at temperature 0 all samples"),
    ],
)
def test_what_a_suite_may_not_say(folder: Path, change: str, why: str) -> None:
    other = {
        'type = "evaluate"': 'type = "rl"',
        "samples = 4": "samples = 2",
        "best@4 digits": "best@4 size",
        "context = 64": 'context = 64\nstart = "base"',
    }.get(change, change.replace("1.0", "0.0"))
    path = folder / "wrong.toml"
    path.write_text(SUITE.replace(change, other, 1).replace("TEXTS", str(folder / "texts.jsonl")))
    with pytest.raises(ConfigError, match=why):
        plan_recipe(read_suite(path).of_models([str(folder / "tiny"), str(folder / "run" / "model")]))


@pytest.mark.parametrize("name", sorted(shipped_suites()))
def test_every_shipped_suite_is_read(name: str) -> None:
    recipe = read_suite(shipped_suites()[name]).of_models(["smollm2-135m-instruct", "other"])
    assert recipe.name == name
    assert recipe.stage
