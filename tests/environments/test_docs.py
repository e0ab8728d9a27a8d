"""The examples of docs/rewards.md and docs/environments.md hold as they stand."""

import json
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from tutelage.environments import build_environment
from tutelage.rewards import NumericReward, build_rewards
from tutelage.stages.model_rewards import MODEL_REWARDS

DOCS = Path(__file__).parents[2] / "docs"


def examples(page, language):
    found = re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found


@pytest.mark.parametrize("page", ["rewards.md", "environments.md"])
def test_the_python_examples_run(page):
    names: dict[str, object] = {}
    for example in examples(page, "python"):
        exec(example, names)


def test_the_rewards_of_the_page_can_be_built(monkeypatch):
    module = ModuleType("my_rewards")
    exec(examples("rewards.md", "python")[0], vars(module))
    monkeypatch.setitem(sys.modules, "my_rewards", module)
    example, scenarios, models = examples("rewards.md", "toml")
    rewards = build_rewards(tomllib.loads(example)["rewards"], "rewards", NumericReward())
    assert [reward.label for reward in rewards] == ["task", "format", "short", "function"]
    late = build_rewards(tomllib.loads(scenarios)["rewards"], "rewards", NumericReward(), more=MODEL_REWARDS)
    assert [reward.after for reward in late] == [0.0, 0.0, 0.0, 0.765, 0.765]
    rewards = build_rewards(tomllib.loads(models)["rewards"], "rewards", more=MODEL_REWARDS)
    assert [reward.label for reward in rewards] == ["reward-model", "gold", "steps", "implicit", "judge", "local-judge"]
    build_rewards([{"type": "function", "function": "my_rewards:shortest", "batch": True}], "rewards")


def test_the_environments_of_the_page_can_be_built(tmp_path, monkeypatch):
    pytest.importorskip("reasoning_gym")
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"Who is {i}?", "answer": str(i)} for i in range(10)]
    Path("trivia.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tables = tomllib.loads("\n".join(examples("environments.md", "toml")))["environments"]
    for name, table in tables.items():
        environment = build_environment(table, f"environments.{name}", tables)
        assert environment.prompts("test")
        assert environment.prompts("train")
