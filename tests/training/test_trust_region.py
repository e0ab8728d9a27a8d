"""The trust-region update: against the closed form of a bandit, and on a language model."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.stages.test_skipping import policy, task_of
from tutelage.algorithms import Trpo
from tutelage.config import Optimizer, TrustRegion
from tutelage.errors import NonFiniteError
from tutelage.functional import kl
from tutelage.training import State, trust_region_update
from tutelage.types import Loss

ADVANTAGES_V = torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
COUNT = 8


class Bandit:
    """Four arms and a softmax over their logits; an action's term is the expectation over the arms, exactly."""

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.logits_V = nn.Parameter(torch.randn(4, generator=generator, dtype=torch.float64))
        self.start_V = self.logits_V.detach().clone()
        self.version = 0

    @property
    def masters(self) -> dict[str, Tensor]:
        return {"logits": self.logits_V}

    def frozen_copy(self) -> Bandit:
        return copy.deepcopy(self)

    def collect_gradients(self) -> None:
        pass

    def publish(self) -> None:
        self.version += 1


def loss_of(bandit: Any, batch: Any) -> tuple[Loss]:
    behaviour_V = bandit.start_V.log_softmax(-1)
    ratio_V = (bandit.logits_V.log_softmax(-1) - behaviour_V).exp()
    return (Loss(-COUNT * (behaviour_V.exp() * ratio_V * ADVANTAGES_V).sum(), "tokens"),)


def divergence(bandit: Any, other: Any, batch: Any) -> Tensor:
    behaviour_V = (bandit if other is None else other).logits_V.detach()
    return kl.exact(behaviour_V[None], bandit.logits_V[None]).expand(COUNT)


_COUNTED = {"skipped_tokens": 0, "sequences": 1, "skipped_sequences": 0, "prompts": 0, "shown": False}
BATCH: Any = SimpleNamespace(acted=COUNT, fields={}, **_COUNTED)


def step(bandit: Bandit, loss: Any = loss_of, **region: Any) -> dict[str, float]:
    state = State(bandit, Optimizer())  # type: ignore[arg-type]
    return trust_region_update(state, [BATCH], loss, divergence, TrustRegion(**region))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("delta", [1e-4, 1e-3])
def test_the_step_is_the_natural_gradient_and_ends_at_the_bound(seed: int, delta: float) -> None:
    """The natural gradient of a softmax's logits is the advantage itself, up to a constant: F (A - c) = g."""
    bandit = Bandit(seed)
    numbers = step(bandit, delta=delta, damping=1e-9, shrink=0.97)
    moved_V = (bandit.logits_V - bandit.start_V).detach()
    probs_V = bandit.start_V.softmax(-1)
    centred_V = ADVANTAGES_V - (probs_V * ADVANTAGES_V).sum()
    assert torch.cosine_similarity(moved_V - moved_V.mean(), centred_V - centred_V.mean(), dim=0) > 0.9999
    after = divergence(bandit, SimpleNamespace(logits_V=bandit.start_V), BATCH)[0].item()
    assert numbers["moved"] == pytest.approx(after)
    assert 0.95 * delta < after <= delta
    assert loss_of(bandit, BATCH)[0].total.item() / COUNT < numbers["loss"]
    assert bandit.version == 1


@pytest.mark.parametrize("delta", [0.01, 0.1, 1.0])
def test_the_bound_is_never_passed(delta: float) -> None:
    for seed in range(10):
        bandit = Bandit(seed)
        assert step(bandit, delta=delta)["moved"] <= delta


def test_a_refused_step_changes_nothing_and_says_so() -> None:
    """A KL that is far larger away from the start than its curvature there foretells."""

    def steep(bandit: Any, other: Any, batch: Any) -> Tensor:
        return divergence(bandit, other, batch) * (1.0 if other is None else 1e3)

    bandit = Bandit()
    state = State(bandit, Optimizer())  # type: ignore[arg-type]
    numbers = trust_region_update(state, [BATCH], loss_of, steep, TrustRegion(backtracks=5))
    assert (numbers["refused"], numbers["step_share"], numbers["moved"]) == (1.0, 0.0, 0.0)
    assert bandit.logits_V.equal(bandit.start_V)
    numbers = trust_region_update(state, [BATCH], loss_of, steep, TrustRegion(backtracks=50))
    assert (numbers["refused"], numbers["step_share"]) == (0.0, pytest.approx(0.8**15))


def test_a_gradient_that_is_not_finite_is_not_applied() -> None:
    def broken(bandit: Any, batch: Any) -> tuple[Loss]:
        return (Loss(loss_of(bandit, batch)[0].total * float("nan"), "tokens"),)

    bandit = Bandit()
    with pytest.raises(NonFiniteError):
        step(bandit, loss=broken)
    assert bandit.logits_V.equal(bandit.start_V)
    assert bandit.logits_V.grad is None


@pytest.mark.parametrize("baseline", ["group", "critic"])
def test_a_language_model_stays_within_the_bound_and_its_loss_falls(baseline: Any) -> None:
    from tutelage.models import ValueModel

    learner, algorithm = policy(), Trpo(baseline=baseline)
    learner.fused = False
    critic = ValueModel(learner, apart=True) if baseline == "critic" else None
    task, state = task_of(algorithm), State(learner, Optimizer(lr=1e-2), critic=critic)
    updates = task.minibatches(state)
    batches = next(updates)
    numbers = task.update(state, batches)
    assert numbers["refused"] == 0.0
    assert 0.5 * 0.01 < numbers["moved"] <= 0.01
    after = sum(task.loss(learner, batch)[0].total.item() for batch in batches)
    tokens = sum(len(batch.action_A) for batch in batches)
    assert after / tokens < numbers["loss"]
    assert learner.version == 1
    if critic is not None:
        policy_before = {name: master.detach().clone() for name, master in learner.masters.items()}
        errors = [task.update(state, batches)["value_loss"] for batches in updates]
        errors += [task.update(state, batches)["value_loss"] for _ in range(3)]
        assert errors[-1] < 0.8 * errors[0]
        assert all(master.equal(policy_before[name]) for name, master in learner.masters.items())
    else:
        assert not list(updates)


def test_micro_batches_change_nothing_in_a_trust_region() -> None:
    ends = []
    for budget in (4096, 12):
        learner = policy()
        task, state = task_of(Trpo(baseline="group"), tokens_per_microbatch=budget), State(learner, Optimizer())
        task.algorithm = Trpo(baseline="group", region=TrustRegion(iterations=2))  # more of them blow up rounding
        learner.fused = False
        (batches,) = task.minibatches(state)
        task._learns = {"policy"}
        task.update(state, batches)
        ends.append((len(batches), learner.masters))
    assert ends[0][0] < ends[1][0]
    for name, master in ends[0][1].items():
        torch.testing.assert_close(ends[1][1][name], master, atol=1e-6, rtol=1e-3)


def test_the_curvature_may_be_measured_on_a_share_of_the_micro_batches() -> None:
    """They are alike, so a share of them has the whole's curvature; the bound is held on all."""
    steps: list[Tensor] = []
    for share, expected in ((1.0, {0, 1, 2, 3}), (0.5, {0, 2}), (0.1, {0})):
        bandit, measured, held = Bandit(), set[int](), set[int]()
        parts = [SimpleNamespace(**vars(BATCH), number=number) for number in range(4)]

        def noted(bandit: Any, other: Any, part: Any, measured: Any = measured, held: Any = held) -> Tensor:
            (measured if other is None else held).add(part.number)
            return divergence(bandit, other, part)

        state, region = State(bandit, Optimizer()), TrustRegion(curvature_share=share)  # type: ignore[arg-type]
        trust_region_update(state, parts, loss_of, noted, region)  # type: ignore[arg-type]
        assert (measured, held) == (expected, {0, 1, 2, 3})
        steps.append((bandit.logits_V - bandit.start_V).detach())
    assert steps[0].abs().max() > 0.01
    torch.testing.assert_close(steps[1], steps[0])
    torch.testing.assert_close(steps[2], steps[0])
