"""Bugs that were seen in the field, put in one by one: which guard sees each, and after how many steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from tests.pipelines.parts import WrongSign
from tests.tiny import tiny_model, tiny_tokenizer
from tutelage.algorithms import ALGORITHMS, Algorithm, Grpo, Reinforce, build_algorithm
from tutelage.config import Checkpoints, Optimizer, RlGuards, RlStage, Sampling
from tutelage.engines import Completion, NativeEngine, Request
from tutelage.environments import Arithmetic
from tutelage.errors import GuardError
from tutelage.models import Policy
from tutelage.rewards import Reward, RewardSuite
from tutelage.stages import rl_task
from tutelage.stages.collect import Collector
from tutelage.stages.experience import credit_with_reward
from tutelage.stages.rl import guards_of
from tutelage.stages.rl_plan import RlPlan
from tutelage.stages.rl_task import RlTask
from tutelage.training import Logs, State, Watch, fit
from tutelage.training.guards import may_roll_back
from tutelage.types import Batch, Experience, Loss, Prompt, Sample


class Even(Reward):
    """The share of the characters whose code is even: half of what a random model writes, and quickly learned."""

    isolated: ClassVar[bool] = False
    type: str = "even"

    def score(self, prompt: Prompt, sample: Sample) -> float:
        return sum(ord(c) % 2 == 0 for c in sample.text) / max(1, len(sample.text))


class Run:
    """A short run of a tiny model, and what its guards said of it."""

    def __init__(self, steps: int, folder: Path, compute: torch.dtype = torch.float32, **sampling: Any) -> None:
        self.policy = Policy(tiny_model(), tiny_tokenizer(), compute)
        self.engine: Any = NativeEngine(self.policy, compiled=False)
        self.steps, self.folder = steps, folder
        self.sampling = Sampling(max_new_tokens=6, **sampling)
        self.rewards: list[float] = []
        self.lr = 1e-2

    def go(self, algorithm: Algorithm | None = None) -> list[tuple[str, str, int]]:
        """Each event's guard, action and step."""
        stage = RlStage(
            type="rl", name="rl", environment="sums", steps=self.steps, prompts_per_step=4, completions_per_prompt=6,
            sampling=self.sampling,
        )  # fmt: skip
        sums = Arithmetic(maximum=9, train_questions=16, test_questions=8)
        plan = RlPlan(stage, algorithm or Reinforce(), sums, (Even(),), sums.prompts("train"))
        nothing = SimpleNamespace(append=lambda line: None, progress=lambda *_: None)
        run: Any = SimpleNamespace(seed=0, samples=nothing, progress=nothing, folder=self.folder)
        events: list[tuple[str, str, int]] = []
        logs = Logs(lambda: [], lambda offsets: None, lambda e: events.append((e["guard"], e["action"], e["step"])))
        state = State(self.policy, Optimizer(lr=self.lr))
        with RewardSuite(plan.rewards, 10.0) as suite:
            task = RlTask(plan, run, Collector(plan, run, self.engine, suite))
            watch = Watch(RlGuards(), logs, state)
            record = lambda step, numbers: self.rewards.append(numbers["reward"])  # noqa: E731
            fit(task, state, self.folder / "checkpoints", Checkpoints(every=1000), record, dict, watch)
        return events


def patched(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Has every micro-batch of the learner changed."""
    pack = rl_task.pack
    monkeypatch.setattr(rl_task, "pack", lambda *arguments: [change(batch) for batch in pack(*arguments)])


def blind(batch: Batch) -> Batch:
    """A mask bug: no answer sees its prompt."""
    return replace(batch, spans=tuple(replace(span, context_length=0) for span in batch.spans))


def shifted(batch: Batch) -> Batch:
    """Off by one: each token is scored in the state that has seen it already."""
    return replace(batch, source_A=batch.action_A)


def without_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Policy.score_states
    monkeypatch.setattr(
        Policy, "score_states", lambda self, states, batch, sampling=None, grad=False: plain(self, states, batch)
    )


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_a_run_without_bugs_meets_no_guard(compute: torch.dtype, tmp_path: Path) -> None:
    run = Run(22 if compute == torch.float32 else 4, tmp_path, compute, temperature=0.7)
    run.lr = 3e-3
    assert run.go() == []
    assert run.rewards[-1] > run.rewards[0]


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("bug", ["mask", "temperature", "shift"])
def test_a_learner_that_computes_another_model_is_stopped_in_its_first_step(
    bug: str, compute: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bug == "temperature":
        without_temperature(monkeypatch)
    else:
        patched(monkeypatch, blind if bug == "mask" else shifted)
    with pytest.raises(GuardError, match="sampler and learner do not compute the same model"):
        Run(3, tmp_path, compute, temperature=0.7).go()


class Stale:
    """An engine that has kept the weights of the beginning, and may say that they are the newest."""

    name = "stale"

    def __init__(self, policy: Policy, honest: bool) -> None:
        self.policy, self.honest = policy, honest
        self.inner = NativeEngine(policy.frozen_copy(), compiled=False)

    def generate(self, requests: Sequence[Request], *arguments: Any) -> list[list[Completion]]:
        sampling, watch, finished = arguments
        groups = self.inner.generate(requests, sampling, watch)
        for number, group in enumerate(groups):
            for completion in group:
                completion.version = self.inner.version if self.honest else self.policy.version
            finished(number, group)
        return groups


@pytest.mark.parametrize("honest", [True, False])
def test_an_engine_that_kept_old_weights_is_stopped_in_the_second_step(honest: bool, tmp_path: Path) -> None:
    run = Run(3, tmp_path)
    run.engine = Stale(run.policy, honest)
    with pytest.raises(GuardError, match="has not taken over the last update" if honest else "mismatch of step 2"):
        run.go()
    assert len(run.rewards) == (1 if honest else 2)


def test_credit_with_the_wrong_sign_is_stopped_in_the_third_step(tmp_path: Path) -> None:
    run = Run(10, tmp_path)
    with pytest.raises(GuardError, match="credit goes against the reward"):
        run.go(WrongSign())
    assert len(run.rewards) == 3


class Uphill(Reinforce):
    """The credit is right, and the loss has the wrong sign."""

    type: str = "uphill"

    def loss(self, actions: Any) -> Loss:
        right = super().loss(actions)
        return replace(right, total=-right.total)


def test_a_loss_with_the_wrong_sign_is_seen_once_the_reward_has_fallen(tmp_path: Path) -> None:
    """It looks like any other run until then: nothing but the reward tells."""
    (event,) = Run(24, tmp_path).go(Uphill())
    assert event[:2] == ("reward", "warn")
    assert 20 <= event[2] <= 24


def test_without_a_reference_there_is_no_kl_to_roll_back_for() -> None:
    stage = RlStage(type="rl", name="rl", environment="e")
    plans: list[Any] = [SimpleNamespace(stage=stage, algorithm=algorithm) for algorithm in (Grpo(kl=0.0), Grpo())]
    assert [may_roll_back(guards_of(plan)) for plan in plans] == [False, True]


@pytest.mark.parametrize("name", sorted(ALGORITHMS.keys() - {"distillation"}))
def test_no_algorithm_credits_against_the_reward(name: str) -> None:
    """What the guard of credit relies on, over random rewards, values, references and process rewards."""
    algorithm = build_algorithm({"type": name}, name)
    for seed in range(5):
        random = torch.Generator().manual_seed(seed)
        rewards_PG = (torch.rand(6, 4, generator=random) > 0.6).float() + 0.1 * torch.rand(6, 4, generator=random)
        sequence_A = torch.arange(24).repeat_interleave(5)
        rewards_A = torch.zeros(120)
        rewards_A[4::5] = rewards_PG.flatten()
        behaviour_A = -torch.rand(120, generator=random)
        experience = Experience(
            rewards_PG=rewards_PG,
            valid_PG=torch.ones(6, 4, dtype=torch.bool),
            truncated_PG=torch.zeros(6, 4, dtype=torch.bool),
            sequence_A=sequence_A,
            rewards_A=rewards_A,
            behaviour_A=behaviour_A,
            after_B=torch.zeros(24),
            process_A=0.1 * torch.randn(120, generator=random),
            reference_A=behaviour_A - 0.05 * torch.randn(120, generator=random),
            values_A=0.3 + 0.1 * torch.randn(120, generator=random),
            greedy_P=torch.rand(6, generator=random),
        )
        advantages_A = algorithm.credit(algorithm.penalised(experience)).advantages_A
        found = credit_with_reward(experience, advantages_A)
        assert found is not None
        assert found > 0.4
        against = credit_with_reward(experience, -advantages_A)
        assert against == pytest.approx(-found)
