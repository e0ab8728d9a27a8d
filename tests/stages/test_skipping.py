"""The stage skips samples of advantage 0 where the algorithm allows it, and nowhere else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from tests.tiny import tiny_model, tiny_tokenizer
from tutelage.algorithms import Algorithm, DrGrpo, Grpo, Reinforce, Rloo
from tutelage.config import Optimizer, RlStage
from tutelage.models import Policy
from tutelage.stages.rl_plan import RlPlan
from tutelage.stages.rl_task import RlTask
from tutelage.training import State, update
from tutelage.types import Group, Prompt, Sample


class Unknown(Grpo):
    """A user's own, which says nothing about zero advantages."""

    type: str = "unknown"
    skips_zero: ClassVar[bool] = False


def groups() -> list[Group]:
    """The second group's answers all got the same reward."""
    rewards = [[1.0, 0.0, 0.5], [0.3, 0.3, 0.3], [0.0, 0.0, 2.0]]
    return [
        Group(
            Prompt(f"p{number}", text="?"),
            (5, 6 + number),
            [
                Sample(f"p{number}", i, list(range(9, 11 + i)), [-5.0] * (2 + i), "", "stop", 0, reward=reward)
                for i, reward in enumerate(some)
            ],
        )
        for number, some in enumerate(rewards)
    ]


def task_of(algorithm: Algorithm, **stage: Any) -> RlTask:
    declared = RlStage(type="rl", name="rl", environment="e").model_copy(update=stage)
    plan = RlPlan(declared, algorithm, SimpleNamespace(), (), ())  # type: ignore[arg-type]
    given: Any = SimpleNamespace(collect=lambda policy, step: groups(), metrics={}, remember=lambda: None)
    return RlTask(plan, given, given)


EVERY = list(range(9))
SPREAD = [0, 1, 6, 7, 8]  # of the first group, the reward of 0.5 is the mean


@pytest.mark.parametrize(
    ("algorithm", "rows"),
    [
        (Grpo(kl=0.0), SPREAD),
        (Grpo(kl=0.1), EVERY),
        (DrGrpo(), SPREAD),
        (Rloo(), SPREAD),
        (Rloo(kl=0.1, kl_in="loss", kl_estimator="k2"), EVERY),
        (Reinforce(), EVERY),  # its baseline is the mean of all, which no reward equals
        (Reinforce(baseline="none"), [0, 2, 3, 4, 5, 8]),
        (Unknown(kl=0.0), EVERY),
    ],
)
def test_only_what_adds_nothing_is_skipped(algorithm: Algorithm, rows: list[int]) -> None:
    reference = policy().frozen_copy() if algorithm.needs_reference else None
    ((batch,),) = task_of(algorithm).minibatches(State(policy(), Optimizer(), reference=reference))
    assert list(batch.rows) == rows
    assert batch.skipped_sequences == 9 - len(rows)
    assert batch.skipped_tokens == 27 - len(batch.action_A)


def policy() -> Policy:
    return Policy(tiny_model(), tiny_tokenizer(), torch.float32)


def two_steps(algorithm: Algorithm, skipping: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[State, RlTask]:
    learner = policy()
    reference = learner.frozen_copy() if algorithm.needs_reference else None
    state, task = State(learner, Optimizer(lr=1e-3, eps=1e-4), reference=reference), task_of(algorithm)
    if not skipping:
        monkeypatch.setattr(type(algorithm), "needs_zero_advantage", True)
    for _ in range(2):
        (batches,) = task.minibatches(state)
        update(state, batches, task.loss, 10)
    monkeypatch.undo()
    return state, task


@pytest.mark.parametrize(
    ("algorithm", "share"), [(Grpo(kl=0.0), 13 / 27), (DrGrpo(), 13 / 27), (Rloo(), 13 / 27), (Grpo(kl=0.1), 0.0)]
)
def test_the_step_is_the_same_without_skipping(
    algorithm: Algorithm, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, task = two_steps(algorithm, True, monkeypatch)
    plain, computed = two_steps(algorithm, False, monkeypatch)
    assert task._metrics["skipped"] == pytest.approx(share)
    assert computed._metrics["skipped"] == 0.0
    for name, master in plain.policy.masters.items():
        torch.testing.assert_close(state.policy.masters[name], master, atol=1e-7, rtol=1e-5)
