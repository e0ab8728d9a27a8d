"""Steps that can teach nothing: equal rewards, empty answers, none rewarded, groups of one. All finite, no movement."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.stages.test_rl_task import begin
from tests.stages.test_skipping import groups
from tutelage.algorithms import (
    Algorithm,
    DrGrpo,
    Grpo,
    Gspo,
    Kimi,
    Opo,
    Ppo,
    Reinforce,
    ReinforcePp,
    Rloo,
    Trpo,
)
from tutelage.algorithms.critic import Critic
from tutelage.types import Group, Sample


def equal(sample: Sample) -> Sample:
    return replace(sample, reward=0.5)


def empty(sample: Sample) -> Sample:
    return replace(sample, tokens=[], logprobs=[])


def unrewarded(sample: Sample) -> Sample:
    return replace(sample, reward=None, failure="the grader is tired")


def changed(change: Callable[[Sample], Sample], most: int = 3) -> list[Group]:
    return [replace(group, samples=[change(sample) for sample in group.samples[:most]]) for group in groups()]


GROUPED = [
    Grpo(), Grpo(kl=0.0), DrGrpo(), Gspo(), Rloo(), Kimi(), Opo(), ReinforcePp(baseline="group"),
    Trpo(baseline="group"), Reinforce(baseline="mean"),
]  # fmt: skip
LEARNED = [Ppo(critic=Critic(kind="model")), Trpo()]  # their baselines are others than the group


def run(algorithm: Algorithm, given: list[Group], **stage: Any) -> tuple[dict[str, float], float]:
    """What a step on these groups tells, and how far it moved the policy."""
    task, state = begin(algorithm, **stage)
    task.collector.collect = lambda policy, step: given  # type: ignore[assignment,misc]
    before = [master.detach().clone() for master in state.policy.masters.values()]
    numbers: dict[str, float] = {}
    for batches in task.minibatches(state):
        numbers |= task.update(state, batches)
    after = state.policy.masters.values()
    moved = max((a.detach() - b).abs().max().item() for a, b in zip(after, before, strict=True))
    assert all(torch.isfinite(master).all() for master in state.policy.masters.values())
    return numbers, moved


@pytest.mark.parametrize("algorithm", GROUPED, ids=lambda one: f"{one.type}-{one.kl:g}")
@pytest.mark.parametrize("change", [equal, empty, unrewarded])
def test_what_can_teach_nothing_moves_nothing(change: Callable[[Sample], Sample], algorithm: Algorithm) -> None:
    numbers, moved = run(algorithm, changed(change))
    assert all(math.isfinite(value) for value in numbers.values()), numbers
    assert moved < 1e-6
    assert numbers.get("grad_norm", 0.0) < 1e-6


@pytest.mark.parametrize("algorithm", LEARNED, ids=lambda one: one.type)
@pytest.mark.parametrize("change", [equal, empty, unrewarded])
def test_with_a_critic_all_stays_finite(change: Callable[[Sample], Sample], algorithm: Algorithm) -> None:
    numbers, moved = run(algorithm, changed(change))
    assert all(math.isfinite(value) for value in numbers.values()), numbers
    assert change is equal or moved == 0.0


@pytest.mark.parametrize("algorithm", [Grpo(kl=0.0), DrGrpo(), Rloo()], ids=lambda one: one.type)
def test_a_group_of_which_one_answer_is_left_moves_nothing(algorithm: Algorithm) -> None:
    """Stages with one answer to a prompt are refused; but of more, all but one may have failed."""
    given = changed(lambda sample: sample if sample.index == 2 else unrewarded(sample))
    numbers, moved = run(algorithm, given)
    assert all(math.isfinite(value) for value in numbers.values()), numbers
    assert moved == 0.0


def test_the_same_groups_do_move_what_can_be_moved() -> None:
    """Else the tests above could not fail."""
    for algorithm in GROUPED:
        numbers, moved = run(algorithm, groups())
        assert moved > 1e-4, algorithm.type
        assert numbers["grad_norm"] > 1e-3, algorithm.type


@pytest.mark.parametrize("algorithm", [*LEARNED, Grpo()], ids=lambda one: one.type)
def test_empty_answers_that_fill_a_micro_batch_leave_the_others_theirs(algorithm: Algorithm) -> None:
    first, *others = groups()
    given = [replace(first, samples=[empty(sample) for sample in first.samples]), *others]
    numbers, moved = run(algorithm, given, tokens_per_microbatch=16)
    assert all(math.isfinite(value) for value in numbers.values()), numbers
    assert moved > 1e-4
