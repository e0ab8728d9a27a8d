"""Classic control: what a stretch holds, what is bootstrapped, and that every kind of algorithm learns there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from tutelage.config import Recipe, read_recipe
from tutelage.environments.control import Gymnasium, build_control
from tutelage.errors import ConfigError, ModelError
from tutelage.models.control import ControlPolicy, Moments, Spaces, load_control_policy
from tutelage.pipelines import resume_run, run_recipe
from tutelage.stages import plan_stage
from tutelage.stages.control import spaces_of
from tutelage.stages.control_collect import Collector
from tutelage.stages.play import play
from tutelage.training import Quiet
from tutelage.types import Transitions

CART = Gymnasium(id="CartPole-v1")


class Corridor(gymnasium.Env):  # type: ignore[type-arg]
    """Shows its time; every step earns 1. Action 1 ends it at once; a limit cuts it off after three steps."""

    observation_space = gymnasium.spaces.Box(-10.0, 10.0, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self.time = 0.0
        return np.array([0.0], dtype=np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.time += 1.0
        return np.array([self.time], dtype=np.float32), 1.0, action == 1, self.time >= 3, {}


gymnasium.register("Corridor-v0", Corridor)


class Scripted:
    """Does what it is told, in every environment; the second one is ended by its second action."""

    def __init__(self) -> None:
        self.calls = 0

    def act(self, observations_EO: np.ndarray, random: object) -> np.ndarray:
        self.calls += 1
        return np.array([0, 1 if self.calls == 2 else 0])

    def allowed(self, actions: np.ndarray) -> np.ndarray:
        return actions


def corridor(length: int) -> Any:
    scripted: Any = Scripted()
    collector = Collector(Gymnasium(id="Corridor-v0"), scripted, 2, 0, 1.0, None, None)
    return collector.stretch(0, length)


def test_a_stretch_knows_what_ended_from_what_was_cut() -> None:
    found = corridor(4)
    assert found.observations_ETO[..., 0].tolist() == [[0, 1, 2, 0], [0, 1, 0, 1]]
    assert found.ended_ET.tolist() == [[False] * 4, [False, True, False, False]]
    assert found.cut_ET.tolist() == [[False, False, True, True], [False, False, False, True]]
    assert found.after_ETO[..., 0].tolist() == [[1, 2, 3, 1], [1, 2, 1, 2]]  # never what the next episode shows first
    assert found.sequences().tolist() == [0, 0, 0, 1, 2, 2, 3, 3]
    assert found.returns == [2.0, 3.0]  # in the order in which they were over


def test_only_what_was_cut_is_worth_something_afterwards() -> None:
    after_B = corridor(4).after(lambda observations_RO: 10.0 * observations_RO[:, 0])
    assert after_B.tolist() == [30.0, 10.0, 0.0, 20.0]


def test_whole_episodes_leave_out_what_comes_after_them() -> None:
    scripted: Any = Scripted()
    collector = Collector(Gymnasium(id="Corridor-v0"), scripted, 2, 0, 1.0, None, None)
    found = collector.episodes(0, 2)
    assert found.kept_ET.tolist() == [[True, True, True], [True, True, False]]
    assert found.sequences().tolist() == [0, 0, 0, 1, 1]
    assert found.after(lambda observations_RO: 10.0 * observations_RO[:, 0]).tolist() == [30.0, 0.0]
    assert sorted(found.returns) == [2.0, 3.0]


def test_groups_begin_alike_and_differ_from_each_other() -> None:
    policy = ControlPolicy(spaces_of(CART), (8,), 0)
    found = Collector(CART, policy, 6, 5, 1.0, None, None).episodes(3, 3)
    first_EO = found.observations_ETO[:, 0]
    assert (first_EO[0] == first_EO[1:3]).all()
    assert (first_EO[3] == first_EO[4:]).all()
    assert (first_EO[0] != first_EO[3]).any()
    again = Collector(CART, policy, 6, 5, 1.0, None, None).episodes(3, 3)
    assert (again.actions_ET[:, :5] == found.actions_ET[:, :5]).all()


def test_moments_are_those_of_all_rows() -> None:
    rows = np.random.default_rng(0).normal(3.0, 2.0, (100, 2))
    moments = Moments(2)
    for part in np.split(rows, [1, 10, 60]):
        moments.add(part)
    np.testing.assert_allclose(moments.mean, rows.mean(0), atol=1e-4)
    np.testing.assert_allclose(moments.variance, rows.var(0), rtol=1e-3)
    np.testing.assert_allclose(moments.normalised(rows).std(0), 1.0, rtol=1e-3)
    assert moments.normalised(np.array([[1e9, 0.0]]))[0, 0] == 10.0


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_what_acts_is_what_learns(name: str) -> None:
    """Numpy samples, torch scores: the frequencies and the densities are those of one distribution."""
    spaces = spaces_of(Gymnasium(id=name))
    policy = ControlPolicy(spaces, (16,), 3)
    with torch.no_grad():
        for weight in policy.masters.values():
            weight.add_(0.5 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    rows = np.tile(np.linspace(-1, 1, spaces.observation, dtype=np.float32), (20_000, 1))
    actions = policy.act(rows, np.random.default_rng(0))
    batch = Transitions(torch.from_numpy(rows), torch.from_numpy(actions), torch.zeros(len(rows)).long(), 1, {})
    logprobs_A = policy.score(batch)[0]
    if spaces.choices:
        for choice in range(spaces.choices):
            share = (actions == choice).mean()
            assert logprobs_A[actions == choice][0].exp().item() == pytest.approx(share, abs=0.015)
    else:
        entropy = policy.score(batch)[1][0].item()
        assert -logprobs_A.mean().item() == pytest.approx(entropy, abs=0.02)
    most_likely = policy.act(rows[:1], None)
    best = Transitions(batch.observations_AO[:1], torch.from_numpy(most_likely), batch.sequence_A[:1], 1, {})
    assert policy.score(best)[0].item() >= logprobs_A.max().item() - 1e-5


def recipe(tmp_path: Path, algorithm: str, more: str = "", steps: int = 10) -> Path:
    path = tmp_path / "cart.toml"
    path.write_text(f"""
name = "cart"
seed = 1
[environments.cart]
type = "gymnasium"
id = "CartPole-v1"
[[stage]]
name = "learn"
type = "control"
environment = "cart"
algorithm = {algorithm}
steps = {steps}
optimizer = {{ lr = 3e-3, max_grad_norm = 0.5 }}
checkpoints = {{ every = 4 }}
{more}
[[stage]]
name = "after"
type = "play"
environment = "cart"
episodes = 10
""")
    return path


LEARNING = [
    ('{ type = "ppo", discount = 0.99, critic = { kind = "model" } }', "length = 64", 10),
    ('{ type = "a2c", critic = { kind = "model" } }', 'length = 16\nepochs = 1\ntransitions_per_update = "all"', 60),
    ('{ type = "trpo", discount = 0.99 }', "length = 128", 8),
    ('{ type = "grpo", kl = 0.0 }', "copies = 4\nepisodes = 4\nepochs = 4", 10),
    ('{ type = "reinforce", credit_of = "action" }', "copies = 8\nepisodes = 1\nepochs = 1", 25),
]


@pytest.mark.parametrize(("algorithm", "more", "steps"), LEARNING, ids=["ppo", "a2c", "trpo", "grpo", "reinforce"])
def test_a_pole_stands_longer(algorithm: str, more: str, steps: int, tmp_path: Path) -> None:
    """A policy that has learned nothing holds it for about 20 steps."""
    folder = tmp_path / "run"
    run_recipe(read_recipe(recipe(tmp_path, algorithm, more, steps)), folder, Quiet())
    scores = json.loads((folder / "stages/02-after/result.json").read_text())["scores"]
    assert len(scores) == 10
    assert np.mean([returns[0] for returns in scores.values()]) > 60


def test_a_policy_by_hand_is_a_policy() -> None:
    def lean(observations_EO: np.ndarray) -> np.ndarray:
        return (observations_EO[:, 2] + observations_EO[:, 3] > 0).astype(int)

    def stubborn(observations_EO: np.ndarray) -> np.ndarray:
        return np.zeros(len(observations_EO), dtype=int)

    assert np.mean(play(CART, lean, 10, 0)) > 150
    assert np.mean(play(CART, stubborn, 10, 0)) < 15
    assert play(CART, stubborn, 10, 0) == play(CART, stubborn, 10, 0)


def test_a_saved_policy_acts_alike_and_another_file_is_refused(tmp_path: Path) -> None:
    policy, statistics = ControlPolicy(Spaces(4, 2), (8,), 0), Moments(4)
    rows = np.random.default_rng(0).normal(2.0, 3.0, (50, 4))
    statistics.add(rows)
    policy.save(tmp_path / "model", statistics)
    loaded, found = load_control_policy(tmp_path / "model")
    assert (loaded.act(found.normalised(rows), None) == policy.act(statistics.normalised(rows), None)).all()
    (tmp_path / "model/config.json").write_text("{}")
    with pytest.raises(ModelError, match="not the model of a control stage"):
        load_control_policy(tmp_path / "model")


def test_a_resumed_run_has_its_weights_and_statistics(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    declared = read_recipe(recipe(tmp_path, '{ type = "ppo", critic = { kind = "model" } }', "length = 16", 4))

    class Ended(Exception):
        pass

    class Stopping(Quiet):
        def end_stage(self, summary: str) -> None:
            raise Ended

    with pytest.raises(Ended):
        run_recipe(declared, folder, Stopping())
    before = load_control_policy(folder / "stages/01-learn/model")
    (folder / "stages/01-learn/result.json").unlink()
    resume_run(folder, Quiet())
    after = load_control_policy(folder / "stages/01-learn/model")
    for name, weight in before[0].masters.items():
        assert weight.equal(after[0].masters[name])
    assert (before[1].mean == after[1].mean).all()
    assert before[1].count > 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"environment": {"type": "gymnasium", "id": "CartPole-v9"}}, ["environments.cart", "CartPole-v9"]),
        ({"environment": {"type": "gymnasium", "id": "Blackjack-v1"}}, ["environments.cart.id", "vector of numbers"]),
        ({"algorithm": {"type": "grpo"}}, ["algorithm", "reference", "language models"]),
        ({"algorithm": {"type": "prime"}, "episodes": 4}, ["algorithm", "rewards of single tokens", "language models"]),
        ({"algorithm": {"type": "remax"}}, ["greedy answer"]),
        ({"algorithm": {"type": "ppo"}}, ["critic.kind", "'model'"]),
        ({"algorithm": {"type": "grpo", "kl": 0.0}}, ["learn.episodes: 1", "every advantage would be 0"]),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], words: list[str]) -> None:
    environment = change.pop("environment", {"type": "gymnasium", "id": "CartPole-v1"})
    stage = {"type": "control", "name": "learn", "environment": "cart", **change}
    declared = Recipe.model_validate({"name": "r", "environments": {"cart": environment}, "stage": [stage]})
    with pytest.raises(ConfigError) as refusal:
        plan_stage(declared.stage[0], declared)
    for word in words:
        assert word in str(refusal.value)


def test_play_needs_a_policy() -> None:
    stage = {"type": "play", "name": "after", "environment": "cart"}
    cart = {"cart": {"type": "gymnasium", "id": "CartPole-v1"}}
    declared = Recipe.model_validate({"name": "r", "environments": cart, "stage": [stage]})
    with pytest.raises(ConfigError, match="no control stage comes before"):
        plan_stage(declared.stage[0], declared)
    assert build_control(cart["cart"], "here") == CART


def test_a_recipe_that_needs_a_model_says_so(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(
        'name = "r"\n[environments.a]\ntype = "arithmetic"\n[[stage]]\nname = "x"\ntype = "rl"\nenvironment = "a"\n'
    )
    with pytest.raises(ConfigError, match=r"model: stage 'x' \(rl\) needs one"):
        read_recipe(path)
