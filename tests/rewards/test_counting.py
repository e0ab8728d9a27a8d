"""Where and from when on a reward counts: parts of a mixture, shares of the steps; elsewhere it is not even asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.pipelines.parts import recipe_text, tiny_model_folder
from tests.rewards.made import sample
from tests.stages.test_curriculum import Stopped
from tutelage.config import read_recipe
from tutelage.errors import ConfigError
from tutelage.pipelines import plan_recipe, resume_run, run_recipe
from tutelage.rewards import Reward, RewardSuite, build_rewards
from tutelage.training import Quiet
from tutelage.types import Group, Prompt, Sample

ASKED: list[tuple[str, str]] = []


class Watched(Reward):
    """Notes what it is asked about."""

    isolated: ClassVar[bool] = False

    type: str = "watched"

    def score(self, prompt: Prompt, sample: Sample) -> float:
        ASKED.append((self.label, prompt.id))
        return 1.0


class Together(Watched):
    """The same for all groups at once."""

    together: ClassVar[bool] = True

    type: str = "together"

    def score_groups(self, groups: Sequence[Group]) -> list[list[float]]:
        assert groups
        return [[self.score(group.prompt, one) for one in group.samples] for group in groups]


def groups() -> list[Group]:
    prompts = [Prompt("s", text="?", answer="4", part="sums"), Prompt("w", text="?", answer="no", part="words")]
    return [Group(prompt, (1,), [sample("4", name=prompt.id)]) for prompt in prompts]


REWARDS: list[Any] = [
    {"type": "numeric", "only": ["sums"]},
    {"type": "function", "function": "tests.rewards.faulty:good", "only": ["words"], "weight": 3.0},
    {"type": "tests.rewards.test_counting:Watched", "name": "late", "after": 0.5, "weight": 10.0},
    {"type": "tests.rewards.test_counting:Together", "name": "all", "only": ["words"], "after": 0.25, "weight": 100.0},
]


@pytest.mark.parametrize(
    ("progress", "rewards", "recorded", "asked"),
    [
        (0.0, [1.0, 0.0], [{"numeric": 1.0}, {"function": 0.0}], []),
        (0.24, [1.0, 0.0], [{"numeric": 1.0}, {"function": 0.0}], []),
        (0.25, [1.0, 100.0], [{"numeric": 1.0}, {"function": 0.0, "all": 1.0}], [("all", "w")]),
        (
            0.5,
            [11.0, 110.0],
            [{"numeric": 1.0, "late": 1.0}, {"function": 0.0, "late": 1.0, "all": 1.0}],
            [("late", "s"), ("late", "w"), ("all", "w")],
        ),
    ],
)
def test_a_reward_counts_where_and_when_it_should(
    progress: float, rewards: list[float], recorded: list[dict[str, float]], asked: list[tuple[str, str]]
) -> None:
    ASKED.clear()
    given = groups()
    with RewardSuite(build_rewards(REWARDS, "rewards"), workers=1) as suite:
        suite.progress = progress
        assert suite.together == (progress >= 0.25)
        suite.score(given)
    assert [group.samples[0].reward for group in given] == rewards
    assert [group.samples[0].rewards for group in given] == recorded
    assert asked == ASKED


def test_a_fault_is_one_only_where_the_reward_counts() -> None:
    given = groups()
    with RewardSuite(build_rewards([{"type": "numeric"}], "rewards")) as suite:
        suite.score(given)
    assert "holds no number" in str(given[1].samples[0].failure)
    with RewardSuite(build_rewards(REWARDS[:1], "rewards")) as suite:
        suite.score(given)
    assert (given[1].samples[0].failure, given[1].samples[0].reward) == (None, 0.0)


STAGES = """
[environments.products]
type = "arithmetic"
operators = ["*"]
maximum = 9
question = "Multiply {expression}."
train_questions = 20
test_questions = 6

[environments.all]
type = "mixture"
parts = [{ environment = "sums" }, { environment = "products" }]

[[stage]]
name = "learn"
type = "rl"
environment = "all"
algorithm = { type = "grpo", kl = 0.0 }
rewards = [
    { type = "task", only = ["sums"] },
    { type = "length", maximum = 3, only = ["products"] },
    { type = "length", target = 4, name = "late", after = 0.5 },
]
steps = 6
prompts_per_step = 4
completions_per_prompt = 4
sampling = { max_new_tokens = 6 }
optimizer = { lr = 1e-3 }
checkpoints = { every = 2 }

[[stage]]
name = "judge"
type = "evaluate"
environment = "all"
rewards = [{ type = "task", only = ["sums"] }, { type = "length", maximum = 3, only = ["products"] }]
sampling = { max_new_tokens = 6 }
"""


def write(folder: Path) -> Path:
    path = folder / "recipe.toml"
    path.write_text(recipe_text(tiny_model_folder(folder / "tiny"), STAGES))
    return path


def test_a_run_resumed_before_the_switch_switches_at_the_same_step(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path))
    run_recipe(recipe, tmp_path / "whole", Quiet())
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path / "cut", Stopped(3))
    resume_run(tmp_path / "cut", Quiet())
    whole, cut = ((tmp_path / name / "samples.jsonl").read_text() for name in ("whole", "cut"))
    assert whole == cut
    for row in map(json.loads, whole.splitlines()):
        own = "length" if row["prompt"].startswith("Multiply") else "task"
        late = {"late"} if row["stage"] == "learn" and row["step"] > 3 else set()
        assert set(row["rewards"]) == {own} | late
    steps = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert ["reward/late" in step for step in steps] == [False] * 3 + [True] * 3
    model = "stages/01-learn/model/model.safetensors"
    assert (tmp_path / "whole" / model).read_bytes() == (tmp_path / "cut" / model).read_bytes()
    judged = json.loads((tmp_path / "whole/stages/02-judge/result.json").read_text())
    assert set(judged["components"]) == {"task", "length"}


LENGTH = "{type='length',maximum=3}"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("learn.rewards=[{type='task',only=['suns']}]", r"learn\.rewards\[0\]\.only: .*'suns': did you mean 'sums'"),
        ("judge.rewards=[{type='task',after=0.5}]", r"judge\.rewards\[0\]\.after: .*; judge has none"),
        ("learn.rewards=[{type='task',after=0.5}]", r"before after = 0\.5 no reward of the part 'sums' counts"),
        ("learn.rewards=[{type='task',after=1.0}]", r"rewards\[0\]\.after: .*less than 1"),
        ("judge.rewards=[{type='task',only=['sums']}]", r"judge\.rewards: none counts for the part 'products'"),
        (
            f"learn.rewards=[{{type='task',only=['sums']}},{LENGTH[:-1]},weight=0.0}}]",
            r"every weight of the part 'products' is 0",
        ),
        ("learn.environment=sums", r"learn\.rewards\[0\]\.only: .*'sums': the environment is no mixture"),
    ],
)
def test_what_changes_nothing_is_refused(override: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        plan_recipe(read_recipe(write(tmp_path), [override]))
