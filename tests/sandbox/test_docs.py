"""The examples of docs/sandbox.md hold as they stand."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from tutelage.environments import build_environment
from tutelage.rewards import CodeReward

PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")


def examples(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found


def test_the_examples_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for example in examples("python"):
        exec(example, {})


def test_the_environments_can_be_built(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "functions.jsonl").write_text(json.dumps({"question": "?", "tests": ["assert f()"]}))
    for name, table in tomllib.loads(examples("toml")[0])["environments"].items():
        assert isinstance(build_environment(table, name).scorer(), CodeReward)


def test_the_page_names_every_key() -> None:
    known = set(CodeReward.model_fields) - {"type", "name", "weight", "only", "after"}
    assert known == {"tag", "partial", "seconds", "total_seconds", "memory_mb", "hidden"}
    assert all(f"| `{key}` |" in PAGE for key in known)
