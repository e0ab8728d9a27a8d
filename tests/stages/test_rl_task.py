"""The stage under every algorithm: a critic, an anchor that moves, weights for the sampler, dynamic sampling."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.stages.test_skipping import groups, policy, task_of
from tutelage.algorithms import Algorithm, Dapo, Grpo, Luffy, Ppo, Remax, Rloo, Vapo
from tutelage.algorithms.critic import Critic
from tutelage.config import Correction, Optimizer, Reference, RlStage, Sampling
from tutelage.engines import build_engine
from tutelage.environments import Arithmetic
from tutelage.errors import NothingToLearnError
from tutelage.models import ValueModel
from tutelage.rewards import RewardSuite
from tutelage.stages.collect import Collector
from tutelage.stages.rl_plan import RlPlan
from tutelage.stages.rl_task import RlTask
from tutelage.training import State
from tutelage.training.memory import Memory
from tutelage.types import Group


def begin(algorithm: Algorithm, **stage: Any) -> tuple[RlTask, State]:
    learner, task = policy(), task_of(algorithm, **stage)
    critic = algorithm.needs_critic
    moves = task.stage.reference.moves
    reference = None
    if algorithm.needs_reference:
        reference = learner.twin() if moves else learner.frozen_copy()
    state = State(
        learner,
        Optimizer(lr=1e-2),
        critic=None if critic is None else ValueModel(learner, apart=critic.kind == "model"),
        critic_lr=None if critic is None else critic.lr,
        reference=reference,
        moving=moves,
        dials=algorithm.dials,
    )
    return task, state


def step(task: RlTask, state: State) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for batches in task.minibatches(state):
        numbers = dict(task.update(state, batches))
    state.step += 1
    task.after_step(state, numbers)
    return {**numbers, **task._metrics}


@pytest.mark.parametrize("kind", ["head", "model"])
def test_a_critic_learns_what_the_answers_earn(kind: Any) -> None:
    task, state = begin(Ppo(critic=Critic(kind=kind, lr=3e-2)), epochs=2)
    seen = [step(task, state) for _ in range(12)]
    assert seen[-1]["value_loss"] < 0.8 * seen[0]["value_loss"]  # the rest cannot be known before the answer
    assert seen[0]["explained_variance"] == 0.0  # the head begins at 0
    assert seen[-1]["explained_variance"] > 0.2
    assert seen[0]["critic_grad_norm"] > 0


def test_a_critic_apart_leaves_the_policys_body_alone() -> None:
    """While it learns alone, a head on the policy's body moves the head only, and a model of its own its own body."""
    for kind in ("head", "model"):
        task, state = begin(Vapo(critic=Critic(kind=kind, warmup=2)))
        before = {name: master.detach().clone() for name, master in state.weights.items()}
        step(task, state)
        step(task, state)  # a head of 0 hands no gradient on in the first
        moved = {name for name, weight in state.weights.items() if not weight.equal(before[name])}
        assert all(name.startswith("critic/") for name in moved)
        assert any(name.startswith("critic/body") for name in moved) == (kind == "model")
        step(task, state)
        assert any(
            not name.startswith("critic/") for name in state.weights if not state.weights[name].equal(before.get(name))
        )


def test_the_value_head_scores_the_states_the_actions_are_taken_in() -> None:
    task, state = begin(Ppo())
    assert state.critic is not None
    with torch.no_grad():
        state.critic.weight_D.copy_(torch.randn(len(state.critic.weight_D)))
    ((batch,),) = task.minibatches(state)
    states_AD = state.policy.states(batch)
    state.policy.module.set_attn_implementation("eager")
    direct_AD = state.policy.module.base_model(  # the second row of the first group, by transformers alone
        input_ids=torch.tensor([[5, 6, 9, 10, 11]])
    ).last_hidden_state[0, 1:4]
    torch.testing.assert_close(states_AD[2:5], direct_AD, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(batch.fields["predicted"], state.critic.values(batch, states_AD), atol=1e-5, rtol=1e-4)


def test_the_anchor_in_the_reward_is_the_learners_own_kl() -> None:
    task, state = begin(Rloo(kl=0.5))
    with torch.no_grad():
        for weight in state.policy.masters.values():
            weight.add_(0.02 * torch.randn_like(weight))
    ((batch,),) = task.minibatches(state)
    drift_A = batch.fields["behaviour"] - batch.fields["reference"]
    assert drift_A.abs().max() > 1e-3
    drift_B = torch.zeros(batch.sequences).index_add(0, batch.sequence_A, drift_A)
    rewards_B = torch.tensor([1.0, 0.0, 0.5, 0.3, 0.3, 0.3, 0.0, 0.0, 2.0]) - 0.5 * drift_B
    loo_B = torch.cat([1.5 * (some - some.mean()) for some in rewards_B.split(3)])
    torch.testing.assert_close(batch.fields["advantages"], loo_B[batch.sequence_A], atol=1e-5, rtol=1e-4)


def test_an_anchor_may_be_replaced_or_follow_slowly() -> None:
    for moves, expected in ((Reference(every=2), [False, True, False]), (Reference(ema=0.9), [False] * 3)):
        task, state = begin(Grpo(), reference=moves)
        assert state.reference is not None
        for number, same in enumerate(expected):
            before = {name: weight.clone() for name, weight in state.reference.masters.items()}
            step(task, state)
            for name, weight in state.reference.masters.items():
                master = state.policy.masters[name]
                assert weight.equal(master) == same
                if moves.ema:
                    torch.testing.assert_close(weight, 0.9 * before[name] + 0.1 * master)
                elif not same:
                    assert weight.equal(before[name]), number
        assert set(state.moving_weights())


@pytest.mark.parametrize("kind", ["full", "truncate", "mask"])
def test_credit_is_weighted_by_learner_over_sampler(kind: Any) -> None:
    task, state = begin(Grpo(kl=0.0), correction=Correction(kind=kind, least=0.5, most=2.0))
    ((batch,),) = task.minibatches(state)
    states_AD = state.policy.states(batch)
    logprobs_A = state.policy.score_states(states_AD, batch)[0].detach()
    batch.fields["sampler"][:] = logprobs_A - torch.tensor([3.0, 0.25] * 10).log()[: len(logprobs_A)]
    found_A = task._actions(state.policy, batch, states_AD).advantages_A / batch.fields["advantages"]
    low, high = {"full": (0.25, 3.0), "truncate": (0.25, 2.0), "mask": (0.0, 0.0)}[kind]
    torch.testing.assert_close(found_A[::2], torch.full_like(found_A[::2], high), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found_A[1::2], torch.full_like(found_A[1::2], low), atol=1e-4, rtol=1e-4)


def test_the_ratio_may_be_to_the_sampler() -> None:
    task, state = begin(Grpo(kl=0.0), ratio_to="sampler")
    ((batch,),) = task.minibatches(state)
    actions = task._actions(state.policy, batch, state.policy.states(batch))
    torch.testing.assert_close(actions.behaviour_A, torch.full_like(actions.behaviour_A, -5.0))


def test_an_exact_anchor_has_the_gradient_of_the_kl() -> None:
    task, state = begin(Grpo(kl=1.0, kl_estimator="exact"))
    seen = [step(task, state) for _ in range(2)]
    assert seen[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    ((batch,),) = task.minibatches(state)
    actions = task._actions(state.policy, batch, state.policy.states(batch))
    assert actions.kl_A is not None
    assert actions.kl_A.min() > 0
    actions.kl_A.sum().backward()
    assert any(master.grad is not None and master.grad.abs().sum() > 0 for master in state.policy.masters.values())


def test_the_greedy_answers_are_the_baseline_of_remax() -> None:
    task, state = begin(Remax())
    task.collector.greedy = lambda policy, groups, step: torch.tensor([1.0, 0.3, 0.5])  # type: ignore[method-assign]
    ((batch,),) = task.minibatches(state)
    earned = torch.tensor([0.0, -1.0, -0.5, 0.0, 0.0, 0.0, -0.5, -0.5, 1.5])
    assert list(batch.rows) == [1, 2, 6, 7, 8]
    torch.testing.assert_close(batch.fields["advantages"], earned[[1, 2, 6, 7, 8]][batch.sequence_A])


def collector(rounds: list[list[Group]], algorithm: Algorithm | None = None, **stage: Any) -> Collector:
    settings = RlStage(type="rl", name="rl", environment="e", prompts_per_step=2, **stage)
    prompts = [group.prompt for group in groups()]
    plan: Any = SimpleNamespace(stage=settings, algorithm=algorithm or Dapo(), prompts=prompts, environment=None)
    run: Any = SimpleNamespace(seed=0, samples=SimpleNamespace(append=lambda line: None))
    made = Collector(plan, run, None, None)  # type: ignore[arg-type]
    asked = iter(rounds)
    made._ask = lambda policy, prompts, step, attempt, seconds: next(asked)[: len(prompts)]  # type: ignore[method-assign]
    return made


def test_groups_without_spread_are_sampled_anew_until_the_step_is_full() -> None:
    first, flat, last = groups()
    made = collector([[first, flat], [flat], [last]])
    kept = made.collect(policy(), 0)
    assert [group.prompt.id for group in kept] == ["p0", "p2"]
    assert made.metrics["groups"] == 4.0


@pytest.mark.parametrize("algorithm", [Dapo(), Grpo()])
def test_groups_without_spread_may_be_replaced_from_some_step_on_whatever_the_algorithm(algorithm: Algorithm) -> None:
    first, flat, last = groups()
    before = collector([[first, flat], [last]], algorithm, dynamic_from=3)
    assert [group.prompt.id for group in before.collect(policy(), 2)] == ["p0", "p1"]
    after = collector([[first, flat], [last]], algorithm, dynamic_from=3)
    assert [group.prompt.id for group in after.collect(policy(), 3)] == ["p0", "p2"]


def test_sampling_that_finds_nothing_stops_and_says_what_it_saw() -> None:
    first, flat, _ = groups()
    made = collector([[first, flat], [flat], [flat]], refills=2)
    with pytest.raises(NothingToLearnError) as stopped:
        made.collect(policy(), 6)
    for words in ("step 7: 'dapo' could learn from 1 of 2", "3 rounds and 4 groups", "mean reward", "finer reward"):
        assert words in str(stopped.value)


def test_an_expert_shows_in_every_group_what_the_policy_would_not_find() -> None:
    """A random model hardly ever writes the right sum; with the demonstration in the group it becomes likelier."""
    environment = Arithmetic(maximum=9, train_questions=8, test_questions=8)
    settings = RlStage(
        type="rl",
        name="rl",
        environment="e",
        prompts_per_step=4,
        completions_per_prompt=4,
        sampling=Sampling(max_new_tokens=6),
    )
    rewards: Any = (environment.scorer(),)
    guided = Luffy(shaping=0.003)  # about the chance of a token here: where the slope is largest
    plan = RlPlan(settings, guided, environment, rewards, environment.prompts("train"))
    run: Any = SimpleNamespace(
        seed=0,
        samples=SimpleNamespace(append=lambda line: None),
        progress=SimpleNamespace(progress=lambda *_: None),
    )
    state = State(policy(), Optimizer(lr=1e-2))
    chances: list[float] = []
    with RewardSuite(rewards, 10.0) as suite:
        collector = Collector(plan, run, build_engine("auto", state.policy), suite)
        task = RlTask(plan, run, collector)
        for _ in range(12):
            groups = collector.collect(state.policy, 0)
            for group in groups:
                own, expert = group.samples[:-1], group.samples[-1]
                assert len(own) == 3
                assert not any(sample.expert for sample in own)
                assert (expert.expert, expert.reward, expert.text) == (
                    True,
                    1.0,
                    environment.demonstration(group.prompt),
                )
            (batches,) = task.minibatches(state)
            (batch,) = batches
            logprobs_A = state.policy.score(batch)[0].detach()
            chances.append(logprobs_A[batch.fields["expert"].bool()].mean().item())
            task.update(state, batches)
    assert chances[-1] > chances[0] + 0.5, chances


def test_earlier_groups_are_learned_from_again_with_weights_for_their_age() -> None:
    task, state = begin(Grpo(kl=0.0), correction=Correction(kind="full"), replay=2)
    state.memory.limit = 2
    counts: list[int] = []
    for _ in range(4):
        (batches,) = task.minibatches(state)
        counts.append(sum(batch.sequences + batch.skipped_sequences for batch in batches))
        task.update(state, batches)
        state.step += 1
    assert counts == [9, 18, 27, 27]
    (batch,) = batches
    assert "behaviour" in batch.fields  # the learner's, as this step began
    actions = task._actions(state.policy, batch, state.policy.states(batch))
    weight_A = (batch.fields["behaviour"] - batch.fields["sampler"]).exp()
    torch.testing.assert_close(actions.advantages_A, batch.fields["advantages"] * weight_A)


def test_a_memory_comes_back_as_it_was() -> None:
    memory, again = Memory(2), Memory(2)
    for number in range(3):
        some = groups()
        some[0].samples[0].text = str(number)
        some[0].samples[0].token_rewards = [0.5 * number, 1.0 / 3.0]
        memory.add(some)
    assert [group.samples[0].text for group in memory.groups[::3]] == ["1", "2"]
    again.restore(memory.to_json())
    assert again.groups == memory.groups
    nothing = Memory()
    nothing.add(groups())
    assert nothing.groups == []
