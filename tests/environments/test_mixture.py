"""Several environments as one: shares, what each prompt knows of where it comes from, its own scorer, refusals."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.parts import recipe_text, tiny_model_folder
from tutelage.config import read_recipe
from tutelage.environments import Environment, build_environment, gold_failures, overlap
from tutelage.errors import ConfigError
from tutelage.pipelines import plan_recipe, run_recipe
from tutelage.pipelines.keys import key_of
from tutelage.rewards import RewardSuite
from tutelage.rewards.base import outcomes
from tutelage.rollouts import prompts_of_step
from tutelage.training import Quiet
from tutelage.types import Group, Sample

OTHERS: dict[str, dict[str, Any]] = {
    "sums": {"type": "arithmetic", "maximum": 9, "train_questions": 30, "test_questions": 6},
    "products": {
        "type": "arithmetic", "operators": ["*"], "maximum": 9, "train_questions": 10, "test_questions": 4,
        "question": "{expression}: put it into <answer></answer>.",
    },
}  # fmt: skip


def mixture(*parts: Any, others: dict[str, Any] = OTHERS, **fields: Any) -> Environment:
    return build_environment({"type": "mixture", "parts": list(parts), **fields}, "environments.all", others)


SUMS, PRODUCTS = {"environment": "sums", "weight": 2}, {"environment": "products"}


def test_shares_are_the_weights_and_every_prompt_is_asked() -> None:
    prompts = mixture(SUMS, PRODUCTS).prompts("train")
    assert Counter(prompt.part for prompt in prompts) == {"sums": 30, "products": 15}
    plain = {name: build_environment(table, name).prompts("train") for name, table in OTHERS.items()}
    for name, own in plain.items():
        asked = Counter(prompt.messages for prompt in prompts if prompt.part == name)
        assert set(asked) == {prompt.messages for prompt in own}  # the products come again, no one a third time
        assert max(asked.values()) - min(asked.values()) <= 1
    assert len({prompt.id for prompt in prompts}) == len(prompts)


def test_a_part_may_allow_shorter_answers_than_the_others() -> None:
    for split in ("train", "test"):
        prompts = mixture(SUMS, {**PRODUCTS, "max_new_tokens": 5}).prompts(split)
        assert {(prompt.part, prompt.most) for prompt in prompts} == {("sums", None), ("products", 5)}


def test_the_order_is_the_seeds_and_a_stretch_holds_of_everything() -> None:
    def parts(**fields: Any) -> list[str | None]:
        return [prompt.part for prompt in mixture(SUMS, PRODUCTS, **fields).prompts("train")]

    first, again, other = (mixture(SUMS, PRODUCTS, seed=seed).prompts("train") for seed in (0, 0, 1))
    assert first == again
    assert [prompt.messages for prompt in first] != [prompt.messages for prompt in other]
    for start in range(36):
        assert abs(parts()[start : start + 9].count("sums") - 6) <= 1
    assert Counter(parts(train_questions=9)) == {"sums": 6, "products": 3}


def test_every_step_asks_each_parts_share() -> None:
    prompts = mixture(SUMS, PRODUCTS).prompts("train")
    steps = [prompts_of_step(prompts, step, 6, 1) for step in range(15)]  # two epochs
    for asked in steps:
        assert abs([prompt.part for prompt in asked].count("sums") - 4) <= 1
    first, second = ([p.id for asked in steps for p in asked][place : place + 45] for place in (0, 45))
    assert sorted(first) == sorted(second) == sorted(prompt.id for prompt in prompts)
    assert first != second
    assert prompts_of_step(prompts, 3, 6, 2) != steps[3]


def test_a_test_asks_every_prompt_once_whatever_the_weights() -> None:
    environment = mixture(SUMS, PRODUCTS)
    assert Counter(prompt.part for prompt in environment.prompts("test")) == {"sums": 6, "products": 4}
    assert overlap(environment) == []


def test_each_prompt_is_scored_and_demonstrated_by_its_own_part() -> None:
    others = {**OTHERS, "words": {"type": "questions", "scorer": {"type": "exact", "tag": "answer"}}}
    rows = [{"question": f"Say {word}.", "answer": word} for word in ("red", "blue", "green", "black")]
    others["words"]["train"] = {"type": "python", "function": "tests.environments.test_mixture:words"}
    globals()["words"] = lambda: rows
    environment = mixture(SUMS, {"environment": "words"}, others=others)
    assert environment.part_names == ("sums", "words")
    assert gold_failures(environment, "train") == []  # in workers: a number, and a word in its tag
    word = next(prompt for prompt in environment.prompts("train") if prompt.part == "words")
    number = next(prompt for prompt in environment.prompts("train") if prompt.part == "sums")
    assert environment.demonstration(word) == f"<answer>{word.answer}</answer>"
    scorer = environment.scorer()
    for prompt, worth in ((word, 0.0), (number, 1.0)):  # "exact" wants its tag, "numeric" the last number
        assert scorer.score(prompt, Sample(prompt.id, 0, [], [], f"It is {prompt.answer}", "stop", 0)) == worth


def test_parts_that_are_scored_by_group_and_one_by_one_go_together() -> None:
    from tests.rewards.made import sample
    from tutelage.rewards import FunctionReward, MixedReward, NumericReward
    from tutelage.types import Prompt

    group = FunctionReward(function="tests.rewards.faulty:good_batch", batch=True)
    mixed = MixedReward(scorers={"one": NumericReward(), "all": group})
    assert mixed.grouped
    answers = [sample("42"), sample("no number")]
    assert outcomes(mixed, Prompt("p", text="?", answer="42", part="one"), answers) == [1.0, 0.0]
    prompt = Prompt("p", text="?", answer="42", part="all")
    assert outcomes(mixed, prompt, answers) == outcomes(group, prompt, answers)
    wrong = Group(Prompt("p", text="?", answer="none", part="one"), (), [sample("1")])
    with RewardSuite([mixed]) as suite:
        suite.score([wrong])
    assert "holds no number" in str(wrong.samples[0].failure)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([{"environment": "suns"}], r"environments\.all\.parts\[0\]\.environment: no \[environments\.suns\].*'sums'"),
        ([SUMS, SUMS], r"parts\[1\]\.environment: 'sums' is a part already"),
        ([{"environment": "all"}], r"'all' is a mixture itself"),
        ([{"environment": "sums", "weight": 0}], r"parts\[0\]\.weight"),
        ([{"environment": "sums", "wait": 1}], r"unknown key 'wait': did you mean 'weight'"),
        ([], r"environments\.all\.parts"),
    ],
)
def test_mistakes_are_refused(parts: list[Any], words: str) -> None:
    others = {**OTHERS, "all": {"type": "mixture", "parts": parts}}
    with pytest.raises(ConfigError, match=words):
        mixture(*parts, others=others)


def test_a_part_that_would_be_asked_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"of 10 train_questions products gets none by its weight"):
        mixture(SUMS, {"environment": "products", "weight": 0.01}, train_questions=10).prompts("train")


STAGES = """
[environments.products]
type = "arithmetic"
operators = ["*"]
maximum = 9
train_questions = 20
test_questions = 6

[environments.all]
type = "mixture"
parts = [{ environment = "sums", weight = 2 }, { environment = "products" }]

[[stage]]
name = "learn"
type = "rl"
environment = "all"
steps = 2
prompts_per_step = 8
completions_per_prompt = 4
sampling = { max_new_tokens = 4 }
algorithm = { type = "luffy" }

[[stage]]
name = "judge"
type = "evaluate"
environment = "all"
sampling = { max_new_tokens = 4 }
require = ["score/sums >= 0", "score/products >= 0"]
"""


def test_scores_are_told_by_part(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_text(tiny_model_folder(tmp_path / "tiny"), STAGES))
    run_recipe(read_recipe(path), tmp_path / "run", Quiet())
    result = json.loads((tmp_path / "run/stages/02-judge/result.json").read_text())
    assert {part: numbers["n"] for part, numbers in result["parts"].items()} == {"sums": 20, "products": 6}
    report = (tmp_path / "run/report.html").read_text()
    assert "The score by the parts of the mixture" in report
    steps = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    rows = [json.loads(line) for line in (tmp_path / "run/samples.jsonl").read_text().splitlines()]
    for step in steps:
        own = [row["reward"] for row in rows if row["stage"] == "learn" and row["step"] == step["step"]]
        assert step["score"] == pytest.approx(sum(own) / 32)
        names = [name for name in step if name.startswith("score/")]
        assert 0 < len(names) <= 2
        assert all(step[name] >= 0.25 for name in names)  # of every four answers one is the environment's own


def test_a_gate_on_an_unknown_part_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_text(tmp_path, STAGES.replace('"score/sums >= 0"', '"score/suns >= 0"')))
    with pytest.raises(ConfigError, match=r"leaves no figure 'score/suns': did you mean 'score/sums'"):
        read_recipe(path)


def test_what_a_part_is_counts_in_the_key(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_text(tiny_model_folder(tmp_path / "tiny"), STAGES))
    recipe = read_recipe(path)
    other = read_recipe(path, ["environments.products.question={expression} is what?"])
    keys = [key_of(plan_recipe(each).stages[1], each, {}) for each in (recipe, other)]
    assert any(line.startswith("environments.products.question") for line in keys[1].differences(keys[0]))
