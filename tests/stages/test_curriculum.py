"""Prompts within a band of success, and lengths that grow over the steps: what is kept, refused, and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.parts import RL, recipe_text, tiny_model_folder
from tests.stages.test_rl_task import collector
from tests.stages.test_skipping import groups, policy
from tutelage.algorithms import Grpo
from tutelage.config import RlStage, Sampling, read_recipe
from tutelage.errors import ConfigError, DataError, NothingToLearnError
from tutelage.pipelines import plan_recipe, resume_run, run_recipe
from tutelage.training import Quiet


def stage(**fields: Any) -> RlStage:
    return RlStage(type="rl", name="rl", environment="e", **fields)


def test_a_group_outside_of_the_band_is_replaced() -> None:
    first, flat, last = groups()  # mean rewards 1/2, 0.3, 2/3; the second without spread
    made = collector([[last, flat], [last], [first]], band=(0.25, 0.6))
    made.plan.algorithm = Grpo()  # type: ignore[misc]  # it learns from any group
    assert [group.prompt.id for group in made.collect(policy(), 0)] == ["p1", "p0"]
    made = collector([[last, flat], [last], [first], [first]], band=(0.25, 0.6))  # DAPO wants spread as well
    assert [group.prompt.id for group in made.collect(policy(), 0)] == ["p0", "p0"]
    made = collector([[first, last]], band=(0.5, 2 / 3))  # its ends are in it
    assert len(made.collect(policy(), 0)) == 2


def test_an_experts_answer_is_no_success_of_the_policys() -> None:
    (first, *_) = groups()
    first.samples[0].expert = True  # of 1, 0 and 1/2 the policy earned the last two
    assert collector([], band=(0.2, 0.3))._in_band(first)
    for sample in first.samples[1:]:
        sample.reward = None
    assert not collector([], band=(-9, 9))._in_band(first)


def test_a_band_that_nothing_is_in_says_so() -> None:
    first, _, last = groups()
    made = collector([[first, last]] * 3, band=(0.9, 1.0), refills=2)
    with pytest.raises(NothingToLearnError, match=r"learn from 0 of 2 .* not 0\.9 to 1\. .*wider band"):
        made.collect(policy(), 0)


def test_the_length_of_a_step_is_that_of_its_share() -> None:
    grows = stage(steps=10, lengths=[[0.3, 8], [0.65, 16]], sampling=Sampling(max_new_tokens=4, temperature=0.7))
    assert [grows.sampling_at(step).max_new_tokens for step in range(10)] == [4, 4, 4, 8, 8, 8, 8, 16, 16, 16]
    assert {grows.sampling_at(step).temperature for step in range(10)} == {0.7}
    assert grows.longest_sampling.max_new_tokens == 16
    shrinks = stage(steps=2, lengths=[[0.0, 32], [0.5, 8]])
    assert (shrinks.longest_sampling.max_new_tokens, shrinks.sampling_at(1).max_new_tokens) == (32, 8)
    assert stage().sampling_at(7) == stage().longest_sampling == Sampling()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("band=[0.8, 0.2]", r"band: must be \[lowest, highest\]"),
        ("completions_per_prompt=1", r"band: one answer measures no success rate"),
        ("lengths=[[0.5, 8], [0.5, 9]]", r"lengths: each begins at a larger share"),
        ("lengths=[[1.0, 8]]", r"lengths\[0\]\[0\]: .*less than 1"),
        ("lengths=[[0.0, 8]]", r"sampling\.max_new_tokens: has no use beside lengths that begin at 0"),
    ],
)
def test_mistakes_are_refused(override: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_text(tmp_path, RL))
    with pytest.raises(ConfigError, match=words):
        read_recipe(path, ["reinforce.band=[0.2, 0.8]", f"reinforce.{override}"])


def test_the_longest_answer_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_text(tiny_model_folder(tmp_path / "tiny"), RL))
    with pytest.raises(DataError, match=r"with max_new_tokens = 250 it runs over"):
        plan_recipe(read_recipe(path, ["reinforce.lengths=[[0.5, 250]]"]))
    with pytest.raises(DataError, match=r"tokens_per_microbatch: 200 does not hold .* and 180 new ones"):
        plan_recipe(read_recipe(path, ["reinforce.lengths=[[0.5, 180], [0.7, 9]]"]))


class Stopped(Quiet):
    """Interrupts after some steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def step(self, step: int, numbers: Any) -> None:
        if step == self.after:
            raise KeyboardInterrupt


def test_a_run_resumed_before_the_switch_switches_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_text(tiny_model_folder(tmp_path / "tiny"), RL))
    quick = ["reinforce.rewards=[{type='length',target=5}]", "reinforce.steps=6", "reinforce.band=[0.0, 0.99]"]
    recipe = read_recipe(path, [*quick, "reinforce.lengths=[[0.5, 9]]"])
    run_recipe(recipe, tmp_path / "whole", Quiet())
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path / "cut", Stopped(3))
    resume_run(tmp_path / "cut", Quiet())
    whole, cut = ((tmp_path / name / "samples.jsonl").read_text() for name in ("whole", "cut"))
    assert whole == cut
    rows = [json.loads(line) for line in whole.splitlines()]
    longest = [max(row["tokens"] for row in rows if row["step"] == step) for step in range(1, 7)]
    assert longest == [6, 6, 6, 9, 9, 9]
    model = "stages/01-reinforce/model/model.safetensors"
    assert (tmp_path / "whole" / model).read_bytes() == (tmp_path / "cut" / model).read_bytes()
