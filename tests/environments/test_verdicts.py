"""Which of two answers is better, as a task: sides are drawn, verdicts are read as a judge's are, and are learned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pipelines.parts import tiny_model_folder
from tutelage.config import read_recipe
from tutelage.environments import Environment, build_environment
from tutelage.errors import DataError
from tutelage.pipelines import run_recipe
from tutelage.training import Quiet
from tutelage.types import Sample

WORTH = {"good": 3, "so so": 2, "bad": 0}


def write(path: Path, count: int, offset: int = 0) -> None:
    rows = [
        {"id": str(i), "prompt": f"Say {i}.", "answers": list(WORTH), "scores": list(WORTH.values())}
        for i in range(offset, offset + count)
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")


@pytest.fixture
def verdicts(tmp_path: Path) -> Environment:
    write(tmp_path / "train.jsonl", 200)
    write(tmp_path / "test.jsonl", 10, 200)
    tables = {name: {"type": "jsonl", "path": str(tmp_path / f"{name}.jsonl")} for name in ("train", "test")}
    return build_environment({"type": "verdicts", **tables, "pairs_per_prompt": 2, "rubric": "good"}, "environments.v")


def test_the_farthest_pairs_are_asked_on_sides_that_are_drawn(verdicts: Environment) -> None:
    prompts = verdicts.prompts("train")
    assert len({prompt.id for prompt in prompts}) == len(prompts) == 400
    pairs: list[tuple[str, str]] = []
    for prompt in prompts:
        text = prompt.messages[0].content
        first, rest = text.split("----- answer A\n")[1].split("\n----- answer B\n")
        sides = {"A": first, "B": rest.split("\n")[0]}
        better = sides[prompt.answer or ""]
        worse = sides["B" if prompt.answer == "A" else "A"]
        assert WORTH[better] > WORTH[worse]
        pairs.append((better, worse))
        assert "What counts: good" in text
    assert set(pairs) == {("good", "bad"), ("so so", "bad")}
    assert 0.4 < sum(prompt.answer == "A" for prompt in prompts) / 400 < 0.6


@pytest.mark.parametrize(
    ("said", "worth"),
    [("[[B]] no, [[A]]", 1.0), ("[[B]]", 0.0), ("[[C]]", 0.0), ("A", 0.0), ("", 0.0), ("[[A]] [[B]]", 0.0)],
)
def test_the_last_verdict_counts(said: str, worth: float, verdicts: Environment) -> None:
    prompt = next(prompt for prompt in verdicts.prompts("test") if prompt.answer == "A")
    assert verdicts.scorer().score(prompt, Sample("p", 0, [1], [0.0], said, "stop", 0)) == worth


def test_every_gold_verdict_is_right(verdicts: Environment) -> None:
    for prompt in verdicts.prompts("test"):
        said = verdicts.demonstration(prompt)
        assert verdicts.scorer().score(prompt, Sample("p", 0, [1], [0.0], said, "stop", 0)) == 1.0


def test_bad_data_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text(json.dumps({"prompt": "p", "chosen": "x", "rejected": "x"}) + "\n")
    table = {"type": "jsonl", "path": str(tmp_path / "bad.jsonl")}
    with pytest.raises(DataError, match=r"bad\.jsonl:1: 'chosen' and 'rejected' are the same"):
        build_environment({"type": "verdicts", "train": table, "test": table}, "environments.v").prompts("train")


def test_a_judge_is_taught_and_asked_like_any_policy(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", 8)
    write(tmp_path / "test.jsonl", 4, 8)
    model = tiny_model_folder(tmp_path / "tiny", max_position_embeddings=1024)
    source = f'{{ type = "jsonl", path = "{tmp_path}/%s.jsonl" }}'
    (tmp_path / "recipe.toml").write_text(f"""
name = "judge"
model = "{model}"
[environments.pairs]
type = "verdicts"
train = {source % "train"}
test = {source % "test"}
[[stage]]
name = "shown"
type = "sft"
source = {{ type = "environment", environment = "pairs" }}
steps = 20
sequences_per_step = 4
optimizer = {{ lr = 1e-2 }}
[[stage]]
name = "grpo"
type = "rl"
environment = "pairs"
steps = 1
prompts_per_step = 2
completions_per_prompt = 2
sampling = {{ max_new_tokens = 6 }}
[[stage]]
name = "agreement"
type = "evaluate"
environment = "pairs"
sampling = {{ temperature = 0.0, max_new_tokens = 6 }}
""")
    run_recipe(read_recipe(tmp_path / "recipe.toml"), tmp_path / "run", Quiet())
    result = json.loads((tmp_path / "run/stages/03-agreement/result.json").read_text())
    assert result["questions"] == 4
    samples = [json.loads(line) for line in (tmp_path / "run/samples.jsonl").read_text().splitlines()]
    last = [line["text"] for line in samples if line["stage"] == "agreement"]
    assert any("[[A]]" in text or "[[B]]" in text for text in last), last  # it has learned to give a verdict
