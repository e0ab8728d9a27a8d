"""Questions that are learned from and tested on are told, before a run and by `check` (RELIABILITY, 29)."""

from __future__ import annotations

import json
from pathlib import Path

from tests.pipelines.parts import EVALUATE, SFT, tiny_model_folder
from tutelage.config import read_recipe
from tutelage.pipelines import plan_recipe, run_recipe
from tutelage.training import Quiet

RECIPE = """
name = "test"
model = "{model}"
compute = "fp32"

[environments.own]
type = "questions"
train = {{ type = "jsonl", path = "{folder}/train.jsonl" }}
test = {{ type = "jsonl", path = "{folder}/test.jsonl" }}

[[stage]]
name = "before"
type = "evaluate"
environment = "own"
questions = 4
sampling = {{ max_new_tokens = 2 }}
"""
AFTER = """
[[stage]]
name = "after"
type = "evaluate"
environment = "own"
questions = 3
sampling = { max_new_tokens = 2 }
"""
LEAKY = """
name = "leaky"
model = "MODEL"
compute = "fp32"

[environments.sums]
type = "questions"
train = { type = "jsonl", path = "FOLDER/train.jsonl" }
test = { type = "jsonl", path = "FOLDER/test.jsonl" }
"""
GOLD = """
[[stage]]
name = "imitate"
type = "sft"
source = { type = "environment", environment = "sums" }
steps = 1
sequences_per_step = 2
"""
LONG = "one two three four five six seven eight nine ten eleven twelve thirteen"


def rows(path: Path, *numbers: int, **more: str) -> None:
    lines = [
        json.dumps({"id": f"{path.stem}{n}", "question": f"What is {n} + 1?", "answer": str(n + 1)}) for n in numbers
    ]
    path.write_text("\n".join(lines) + "\n")


def written(folder: Path) -> Path:
    rows(folder / "train.jsonl", *range(10, 16))
    rows(folder / "test.jsonl", 1, 2, 3, 4)
    rows(folder / "talks.jsonl", 2, 30, 31, 32, 33, 34, 35)
    text = (folder / "talks.jsonl").read_text()
    (folder / "talks.jsonl").write_text(text.replace("What is 2", "  WHAT   is 2"))
    sft = SFT.replace(
        '{ type = "environment", environment = "sums" }', f'{{ type = "jsonl", path = "{folder}/talks.jsonl" }}'
    )
    model = tiny_model_folder(folder / "tiny")
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(model=model, folder=folder) + sft.replace("steps = 9", "steps = 1") + AFTER)
    return path


class Notes(Quiet):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def note(self, text: str) -> None:
        self.heard.append(text)


def test_what_is_learned_and_tested_is_told_by_check_first_in_a_run_and_in_the_result(tmp_path: Path) -> None:
    path = written(tmp_path)
    told = "of 3 questions 1 stand in the 14 texts trained on, 0 share 13 words in a row, 0 share 8 words in a row"
    assert [line.strip() for line in plan_recipe(read_recipe(path)).lines() if "trained on" in line] == [told]
    notes = Notes()
    run_recipe(read_recipe(path), tmp_path / "run", notes)
    assert notes.heard[0] == f"after: {told}"  # what comes before any training has nothing to tell
    result = json.loads((tmp_path / "run/stages/03-after/result.json").read_text())
    assert (result["contamination"]["exact"], result["contamination"]["questions"]) == (1, 3)
    assert "contamination" not in json.loads((tmp_path / "run/stages/01-before/result.json").read_text())


def test_nothing_is_told_first_where_nothing_is_shared(tmp_path: Path) -> None:
    notes = Notes()
    run_recipe(read_recipe(written(tmp_path), ["after.questions=1"]), tmp_path / "run", notes)
    assert not [line for line in notes.heard if "trained on" in line]


def test_preferences_are_looked_at_too(tmp_path: Path) -> None:
    path = written(tmp_path)
    judged = [{"id": f"p{n}", "question": f"What is {n} + 1?", "chosen": "a", "rejected": "b"} for n in (3, 4, 60)]
    (tmp_path / "judged.jsonl").write_text("\n".join(map(json.dumps, judged)) + "\n")
    stage = (
        '[[stage]]\nname = "prefer"\ntype = "preference"\nsteps = 1\nprompts_per_step = 1\n'
        f'source = {{ type = "jsonl", path = "{tmp_path}/judged.jsonl" }}\n'
    )
    path.write_text(path.read_text().replace('[[stage]]\nname = "after"', stage + '[[stage]]\nname = "after"'))
    assert [line for line in plan_recipe(read_recipe(path)).lines() if "of 3 questions 2 stand in" in line]


def test_whole_questions_and_stretches_of_them_are_told_where_both_are(tmp_path: Path) -> None:
    train = ["What is 1 + 1?", f"{LONG} fourteen is 14?", "a b c d e f g h and 8?"]
    test = ["what is 1  + 1?", f"Say: {LONG} 13?", "x a b c d e f g h 9?", "What is 2 + 2?"]
    for name, questions in (("train", train), ("test", test)):
        rows = [{"question": question, "answer": "2"} for question in questions]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = tiny_model_folder(tmp_path / "tiny")
    text = LEAKY.replace("MODEL", str(model)).replace("FOLDER", str(tmp_path))
    path = tmp_path / "recipe.toml"
    path.write_text(text + EVALUATE.replace("judge", "before") + GOLD + EVALUATE)
    said = "of 4 questions 1 stand in the "
    lines = list(plan_recipe(read_recipe(path)).lines())
    assert [said in line for line in lines].count(True) == 1  # nothing is learned before the first
    notes = Notes()
    run_recipe(read_recipe(path), tmp_path / "run", notes)
    results = [
        json.loads((tmp_path / f"run/stages/{name}/result.json").read_text()) for name in ("01-before", "03-judge")
    ]
    assert "contamination" not in results[0]
    found = results[1]["contamination"]
    assert (found["questions"], found["exact"], found["shared_13"], found["shared_8"]) == (4, 1, 1, 2)
    assert any(said in line and "1 share 13 words in a row, 2 share 8 words" in line for line in notes.heard)
    assert "share 13 words in a row with one" in (tmp_path / "run/report.html").read_text()
