"""What of an evaluation's questions the stages before it learn from: in the plan's lines, the notes and the result."""

from __future__ import annotations

import json
from pathlib import Path

from tests.pipelines.parts import EVALUATE, tiny_model_folder
from tutelage.config import read_recipe
from tutelage.pipelines import plan_recipe, run_recipe
from tutelage.training import Quiet

RECIPE = """
name = "leaky"
model = "MODEL"
compute = "fp32"

[environments.sums]
type = "questions"
train = { type = "jsonl", path = "FOLDER/train.jsonl" }
test = { type = "jsonl", path = "FOLDER/test.jsonl" }
"""
SFT = """
[[stage]]
name = "imitate"
type = "sft"
source = { type = "environment", environment = "sums" }
steps = 1
sequences_per_step = 2
"""
LONG = "one two three four five six seven eight nine ten eleven twelve thirteen"


class Notes(Quiet):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def note(self, text: str) -> None:
        self.heard.append(text)


def test_it_is_told_where_both_are(tmp_path: Path) -> None:
    train = ["What is 1 + 1?", f"{LONG} fourteen is 14?", "a b c d e f g h and 8?"]
    test = ["what is 1  + 1?", f"Say: {LONG} 13?", "x a b c d e f g h 9?", "What is 2 + 2?"]
    for name, questions in (("train", train), ("test", test)):
        rows = [{"question": question, "answer": "2"} for question in questions]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = tiny_model_folder(tmp_path / "tiny")
    text = RECIPE.replace("MODEL", str(model)).replace("FOLDER", str(tmp_path))
    path = tmp_path / "recipe.toml"
    path.write_text(text + EVALUATE.replace("judge", "before") + SFT + EVALUATE)
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
