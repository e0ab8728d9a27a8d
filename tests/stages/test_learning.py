"""Every algorithm makes a tiny model better at what it is rewarded for, and worse when its sign is turned."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from tests.stages.test_skipping import policy
from tutelage.algorithms import ALGORITHMS, Algorithm
from tutelage.config import Optimizer, Reference, RlStage, Sampling
from tutelage.engines import build_engine
from tutelage.environments import Arithmetic
from tutelage.rewards import Reward, RewardSuite
from tutelage.rewards.base import Spread
from tutelage.stages.collect import Collector
from tutelage.stages.rl import first_state
from tutelage.stages.rl_plan import RlPlan
from tutelage.stages.rl_task import RlTask
from tutelage.types import Credit, Experience, Prompt, Sample

STEPS = 12
REGION = {"delta": 0.2, "iterations": 4}
TABLES: dict[str, dict[str, Any]] = {
    **{name: {} for name in ALGORITHMS if name != "distillation"},  # it reads no reward: test_distillation
    "dr_grpo": {"length": 6},
    "dapo": {"overlong_filter": False},  # a random model hardly ever ends its answers
    "ppo": {"critic": {"lr": 0.03}, "penalty": 0.1, "penalty_target": 0.01},
    "a2c": {"critic": {"lr": 0.03}, "discount": 1.0},
    "vapo": {"critic": {"kind": "model", "decay": 1.0, "warmup": 2, "lr": 0.03}, "alpha": 1.0, "correct": 0.5},
    "trpo": {"baseline": "group", "region": REGION},
    "grpo": {"kl": 0.01},
    "kimi": {"length_weight": 0.1, "correct": 0.5},
    "reinforce_pp": {"kl": 0.01},
}
# LUFFY's expert, the arithmetic's gold answer, is in every group of its own.
MORE = {
    "trpo with a critic": {"type": "trpo", "region": REGION, "critic": {"kind": "model", "lr": 0.03}},
    "ppo with a model": {"type": "ppo", "critic": {"kind": "model"}, "clip_dual": 3.0, "entropy_bonus": 0.01},
    "gspo by token": {"type": "gspo", "level": "token"},
    "reinforce_pp-baseline": {
        "type": "reinforce_pp", "baseline": "group", "kl": 0.01, "kl_in": "loss", "kl_estimator": "k2",
    },
    "reinforce by action": {"type": "reinforce", "credit_of": "action"},
}  # fmt: skip
EVERY = {**{name: {"type": name, **table} for name, table in TABLES.items()}, **MORE}


class EvenTokens(Reward):
    """The share of even token ids: half of them at first, so that a policy can move either way."""

    isolated: ClassVar[bool] = False
    type: str = "even"

    def score(self, prompt: Prompt, sample: Sample) -> float | Spread:
        return sum(token % 2 == 0 for token in sample.tokens) / len(sample.tokens)


class EvenOrNot(EvenTokens):
    """The same, told of each token."""

    @property
    def spreads(self) -> bool:
        return True

    def score(self, prompt: Prompt, sample: Sample) -> Spread:
        return Spread(tuple((token % 2 == 0) / len(sample.tokens) for token in sample.tokens))


def turned(algorithm: type[Algorithm]) -> type[Algorithm]:
    class Turned(algorithm):
        def credit(self, experience: Experience) -> Credit:
            credit = super().credit(experience)
            return replace(credit, advantages_A=-credit.advantages_A)

    return Turned


def rewards_of_a_run(table: dict[str, Any], seed: int, wrong: bool = False) -> list[float]:
    kind = ALGORITHMS[table["type"]]
    algorithm = (turned(kind) if wrong else kind).model_validate(table)
    stage = RlStage(
        type="rl",
        name="rl",
        environment="sums",
        prompts_per_step=6,
        refills=30,
        reference=Reference(every=5) if algorithm.needs_reference else Reference(),
        sampling=Sampling(max_new_tokens=6),
        optimizer=Optimizer(lr=0.01),
        steps=STEPS,
    )
    environment = Arithmetic(maximum=9, train_questions=40, test_questions=20)
    reward = EvenOrNot() if kind.needs_process else EvenTokens()
    plan = RlPlan(stage, algorithm, environment, (reward,), environment.prompts("train"))
    learner = policy()
    if algorithm.trust_region is not None:
        learner.fused = False
    progress = SimpleNamespace(progress=lambda *_: None)
    run: Any = SimpleNamespace(seed=seed, samples=SimpleNamespace(append=lambda line: None), progress=progress)
    state = first_state(plan, learner)
    engine = build_engine("auto", learner)
    found: list[float] = []
    with RewardSuite(plan.rewards, 10.0) as suite:
        task = RlTask(plan, run, Collector(plan, run, engine, suite))
        for _ in range(STEPS):
            numbers: dict[str, float] = {}
            for batches in task.minibatches(state):
                numbers |= task.update(state, batches)
            state.step += 1
            task.after_step(state, numbers)
            found.append(task.metrics()["reward"])
    return found


@pytest.mark.parametrize("name", EVERY)
def test_the_reward_rises(name: str) -> None:
    for seed in (1, 2, 3):
        rewards = rewards_of_a_run(EVERY[name], seed)
        assert sum(rewards[-3:]) / 3 > rewards[0] + 0.08, (seed, rewards)


@pytest.mark.parametrize("name", EVERY)
def test_with_the_sign_turned_it_falls(name: str) -> None:
    rewards = rewards_of_a_run(EVERY[name], 1, wrong=True)
    assert sum(rewards[-3:]) / 3 < rewards[0] - 0.08, rewards
