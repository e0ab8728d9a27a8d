"""With LoRA the reference is the policy without its adapter: the same numbers as a copy that is held, and no copy."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.pipelines.parts import RL, recipe_text, tiny_model_folder
from tests.stages.test_rl_task import step
from tests.stages.test_skipping import task_of
from tests.tiny import tiny_model, tiny_tokenizer
from tutelage.algorithms import Algorithm, Grpo, OnlineDpo, Ppo, Rloo
from tutelage.algorithms.critic import Critic
from tutelage.config import Lora, Optimizer, RlStage, read_recipe
from tutelage.models import Policy, ValueModel
from tutelage.pipelines import plan_recipe, resume_run, run_recipe
from tutelage.stages.rl import first_state
from tutelage.stages.rl_plan import RlPlan
from tutelage.stages.rl_task import RlTask
from tutelage.training import Quiet, State

LORA = Lora(rank=4)
COMPUTE = pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


def begin(algorithm: Algorithm, compute: torch.dtype, held: bool, **stage: Any) -> tuple[RlTask, State]:
    policy = Policy(tiny_model(), tiny_tokenizer(), compute)
    policy.adapt(LORA, 7)
    critic = algorithm.needs_critic
    state = State(
        policy,
        Optimizer(lr=1e-2),
        critic=None if critic is None else ValueModel(policy, apart=False),
        critic_lr=None if critic is None else critic.lr,
        reference=policy.frozen_copy() if held else None,
    )
    task = task_of(algorithm, lora=LORA, **stage)
    return task, state


@COMPUTE
@pytest.mark.parametrize(
    ("algorithm", "stage"),
    [
        (Grpo(kl=0.5), {}),
        (Grpo(kl=0.5), {"tokens_per_microbatch": 12, "epochs": 2}),
        (Rloo(kl=0.5), {}),
        (Ppo(kl=0.5, critic=Critic(kind="head", lr=1e-2)), {"epochs": 2}),
        (OnlineDpo(), {}),
    ],
    ids=["grpo", "grpo in pieces", "rloo", "ppo", "online dpo"],
)
def test_a_step_is_that_with_a_copy_held(algorithm: Algorithm, stage: dict[str, Any], compute: torch.dtype) -> None:
    """To the last bit: what the reference says, the gradients, and the weights after four steps."""
    (one, with_copy), (other, without) = (begin(algorithm, compute, held, **stage) for held in (True, False))
    for _ in range(4):
        for batches, theirs in zip(one.minibatches(with_copy), other.minibatches(without), strict=True):
            for batch, their in zip(batches, theirs, strict=True):
                assert their.fields.keys() == batch.fields.keys()
                assert all(their.fields[name].equal(batch.fields[name]) for name in batch.fields)
            told, their_told = one.update(with_copy, batches), other.update(without, theirs)
            assert their_told == told
            assert told["grad_norm"] > 0.0
        with_copy.step, without.step = with_copy.step + 1, without.step + 1
    assert all(factor.equal(with_copy.policy.masters[name]) for name, factor in without.policy.masters.items())
    ((batch, *_), *_) = one.minibatches(with_copy)
    logprobs_A = with_copy.policy.score(batch)[0]
    assert (logprobs_A - batch.fields["reference"]).abs().max() > 1e-2, "the policy has not left the reference"


@COMPUTE
def test_the_gradient_is_that_with_a_copy_held(compute: torch.dtype) -> None:
    """Away from the reference, where the anchor pulls."""
    gradients: list[dict[str, torch.Tensor]] = []
    for held in (True, False):
        task, state = begin(Grpo(kl=2.0), compute, held)
        step(task, state)
        for batches in task.minibatches(state):
            for batch in batches:
                sum(loss.total for loss in task.loss(state.policy, batch)).backward()
        gradients.append(
            {name: factor.grad for name, factor in state.policy.masters.items() if factor.grad is not None}
        )
    ours, theirs = gradients
    assert len(ours) == 2 * 2 * 7
    assert all(theirs[name].equal(gradient) for name, gradient in ours.items())


def plan_of(algorithm: Algorithm, lora: Lora | None) -> RlPlan:
    stage = RlStage(type="rl", name="rl", environment="e", lora=lora)
    return RlPlan(stage, algorithm, SimpleNamespace(), (), ())  # type: ignore[arg-type]


def test_no_second_model_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    def holds(algorithm: Algorithm, lora: Lora | None = LORA) -> bool:
        policy = Policy(tiny_model(), tiny_tokenizer(), torch.float32)
        if lora is not None:
            policy.adapt(lora, 7)
        return first_state(plan_of(algorithm, lora), policy).reference is not None

    assert holds(Grpo(kl=0.1), lora=None)
    assert not holds(Grpo(kl=0.0), lora=None)
    assert holds(Grpo(kl=0.1, kl_estimator="exact"))  # the two distributions are wanted side by side
    monkeypatch.setattr(Policy, "frozen_copy", lambda self: pytest.fail("a second model is made"))
    assert not holds(Grpo(kl=0.1))
    assert not holds(OnlineDpo())
    task, state = begin(Grpo(kl=0.1), torch.float32, held=False)
    assert [step(task, state)["kl"] > 0.0 for _ in range(3)] == [False, True, True]


def recipe(folder: Path, *overrides: str) -> Any:
    path = folder / "recipe.toml"
    path.write_text(recipe_text(tiny_model_folder(folder / "tiny"), RL))
    return read_recipe(path, ["compute=bf16", "reinforce.lora.rank=4", "reinforce.optimizer.lr=0.01", *overrides])


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """The anchor comes back with the model that the stage begins with: no checkpoint holds it."""

    class Killed(Quiet):
        def step(self, step: int, numbers: Any) -> None:
            if step == 6:
                raise KeyboardInterrupt

    plan = recipe(tmp_path)
    assert any("reference model: the policy without its adapter" in line for line in plan_recipe(plan).lines())
    run_recipe(plan, tmp_path / "whole", Quiet())
    with pytest.raises(KeyboardInterrupt):
        run_recipe(plan, tmp_path / "cut", Killed())
    resume_run(tmp_path / "cut", Quiet())
    for name in ("model/model.safetensors", "model/adapter/adapter_model.safetensors"):
        one, other = ((tmp_path / run / "stages/01-reinforce" / name).read_bytes() for run in ("whole", "cut"))
        assert one == other
    told, again = (
        [json.loads(line)["kl"] for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "cut")
    )
    assert told == again
    assert told[-1] > 1e-3
