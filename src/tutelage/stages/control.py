"""The `control` stage: a small network learns in a gymnasium environment, by the algorithms of language models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.algorithms import Algorithm, build_algorithm
from tutelage.config import ControlStage, Recipe
from tutelage.environments.control import Gymnasium, build_control
from tutelage.errors import ConfigError
from tutelage.functional.value_losses import explained_variance
from tutelage.models.control import ControlCritic, ControlPolicy, Moments, Spaces
from tutelage.seeds import derive_seed
from tutelage.stages.context import Result, StageRun
from tutelage.stages.control_collect import Collector, Stretch
from tutelage.stages.experience import turns
from tutelage.training import State, trust_region_update, update
from tutelage.types import Actions, Experience, Loss, Transitions


@dataclass(frozen=True, slots=True)
class ControlPlan:
    """The stage with everything resolved that can be known before it runs."""

    stage: ControlStage
    algorithm: Algorithm
    environment: Gymnasium
    spaces: Spaces

    @property
    def total_steps(self) -> int:
        return self.stage.steps


def plan_control(stage: ControlStage, recipe: Recipe) -> ControlPlan:
    """Resolves and checks the stage. Raises ConfigError with the remedy."""
    where = f"{stage.name}.algorithm"
    algorithm = build_algorithm(stage.algorithm, where)
    if algorithm.kl or algorithm.needs_greedy or algorithm.needs_expert or algorithm.needs_process:
        raise ConfigError(
            f"{where}: '{algorithm.type}' with a reference, a greedy answer, an expert's, or rewards of single tokens "
            "is for language models"
        )
    if algorithm.needs_critic is not None and algorithm.needs_critic.kind == "head":
        raise ConfigError(f"{where}.critic.kind: a control stage has a critic of its own: set it to 'model'")
    algorithm.check_group_size(stage.episodes or 1, f"{stage.name}.episodes")
    environment = build_control(recipe.environments[stage.environment], f"environments.{stage.environment}")
    return ControlPlan(stage, algorithm, environment, spaces_of(environment))


def spaces_of(environment: Gymnasium) -> Spaces:
    """Sizes and bounds of an environment's observations and actions."""
    one = environment.make(1)
    actions, width = one.single_action_space, one.single_observation_space.shape[0]
    one.close()
    if hasattr(actions, "n"):
        return Spaces(width, int(actions.n))
    return Spaces(width, None, tuple(actions.low.tolist()), tuple(actions.high.tolist()))


def run_control(plan: ControlPlan, run: StageRun) -> Result:
    """Trains the policy and saves it."""
    stage, spaces = plan.stage, plan.spaces
    torch.set_num_threads(1)  # the networks are too small to share out
    policy = ControlPolicy(spaces, stage.hidden, derive_seed(run.seed, "policy"))
    observations, rewards = Moments(spaces.observation), Moments(1)
    critic = plan.algorithm.needs_critic
    state = State(
        policy,
        stage.optimizer,
        critic=None if critic is None else ControlCritic(spaces, stage.hidden, derive_seed(run.seed, "critic")),
        critic_lr=None if critic is None else critic.lr,
        dials=plan.algorithm.dials,
        buffers={f"{n}/{key}": t for n, m in (("observations", observations), ("rewards", rewards))
                 for key, t in m.tensors.items()},
    )  # fmt: skip
    run.begin(state)
    task = ControlTask(plan, run, state, observations, rewards)
    try:
        run.fit(task, state, stage.checkpoints)
    finally:
        task.collector.close()
    saved = run.save_model(lambda folder: policy.save(folder, observations))
    return {"type": "control", "steps": state.step, "saved": saved}


class ControlTask:
    """What `fit` trains: a policy on what it meets in its environments."""

    def __init__(self, plan: ControlPlan, run: StageRun, state: State, observations: Moments, rewards: Moments) -> None:
        self.plan, self.run, self.stage, self.algorithm = plan, run, plan.stage, plan.algorithm
        self.total_steps, self._state = plan.stage.steps, state
        stage = plan.stage
        self.collector = Collector(
            plan.environment,
            state.policy,
            stage.copies * (stage.episodes or 1),
            run.seed,
            getattr(plan.algorithm, "discount", 1.0),
            observations if stage.normalise_observations else None,
            rewards if stage.normalise_rewards else None,
        )
        self._recent: list[float] = []  # what the last episodes earned
        self._known: Mapping[str, Any] = {}  # what the memory was told of them
        self._learns = {"policy", "critic"}
        self._metrics: dict[str, float] = {}

    def minibatches(self, state: State) -> Iterator[Sequence[Transitions]]:
        """Acts, credits; then the batch of every update of the step."""
        stage, began = self.stage, perf_counter()
        state.before_change()  # the statistics of what is observed
        if state.memory.episodes is not self._known:  # resumed, or gone back to a checkpoint
            self._go_on(state.memory.episodes)
        if stage.episodes is None:
            found = self.collector.stretch(state.step, stage.length)
        else:
            found = self.collector.episodes(state.step, stage.episodes)
        whole = self._transitions(found)
        experience = self._experience(found, whole)
        credit = self.algorithm.credit(self.algorithm.penalised(experience))
        fields = {**whole.fields, "advantages": credit.advantages_A}
        if credit.returns_A is not None and experience.values_A is not None:
            fields |= {"returns": credit.returns_A, "predicted": experience.values_A}
        self._note(found, whole, fields, perf_counter() - began)
        whole = replace(whole, fields=fields)
        random = np.random.default_rng(derive_seed(self.run.seed, "order", state.step))
        updates = ([part] for _ in range(stage.epochs) for part in _parts(whole, stage, random))
        for batches, learns in turns(self.algorithm, state.step, [whole], updates):
            self._learns = learns
            yield batches

    def update(self, state: State, batches: Sequence[Transitions]) -> Mapping[str, float]:
        region = self.algorithm.trust_region
        if region is None or "policy" not in self._learns:
            return update(state, batches, self.loss, self.total_steps)
        return trust_region_update(state, batches, self.loss, _divergence, region)

    def loss(self, policy: ControlPolicy, batch: Transitions) -> Sequence[Loss]:
        """The algorithm's loss and the critic's."""
        logprobs_A, entropy_A = policy.score(batch, self.algorithm.entropy_bonus > 0.0)
        critic = self.algorithm.needs_critic
        actions = Actions(
            logprobs_A=logprobs_A,
            entropy_A=entropy_A,
            advantages_A=batch.fields["advantages"],
            behaviour_A=batch.fields["behaviour"],
            reference_A=None,
            sequence_A=batch.sequence_A,
            sequences=batch.sequences,
            predicted_A=batch.fields.get("predicted"),
            returns_A=batch.fields.get("returns"),
            dials=self._state.dials,
        )
        losses: list[Loss] = []
        if "policy" in self._learns:
            losses.append(replace(self.algorithm.loss(actions), terms={"the learner's log-probability": logprobs_A}))
        if critic is not None and self._state.critic is not None and "critic" in self._learns:
            values_A = self._state.critic.values(batch)
            losses.append(replace(critic.loss(actions.with_values(values_A)), terms={"the critic's value": values_A}))
        return losses

    def after_step(self, state: State, metrics: Mapping[str, float]) -> None:
        state.dials = {**state.dials, **self.algorithm.turned(state.dials, metrics)}
        under_way = self.collector.under_way() if self.stage.episodes is None else {}
        state.memory.episodes = self._known = {"recent": self._recent, "under_way": under_way}

    def _go_on(self, episodes: Mapping[str, Any]) -> None:
        self._recent = list(episodes.get("recent", ()))
        self.collector.resume(episodes.get("under_way", {}))
        self._known = episodes

    def metrics(self) -> Mapping[str, float]:
        return self._metrics

    @torch.no_grad()
    def _transitions(self, found: Stretch) -> Transitions:
        sequence_A = found.sequences()
        actions = torch.from_numpy(found.actions_ET[found.kept_ET])
        whole = Transitions(
            observations_AO=torch.from_numpy(found.observations_ETO[found.kept_ET]).float(),
            actions_A=actions if self.plan.spaces.choices is not None else actions.float(),
            sequence_A=sequence_A,
            sequences=int(sequence_A[-1]) + 1,
            fields={},
        )
        return replace(whole, fields={"behaviour": self._state.policy.score(whole)[0]})

    @torch.no_grad()
    def _experience(self, found: Stretch, whole: Transitions) -> Experience:
        critic, rewards_A = self._state.critic, torch.from_numpy(found.rewards_ET[found.kept_ET])
        earned_B = torch.zeros(whole.sequences).index_add(0, whole.sequence_A, rewards_A)
        group = self.stage.episodes or 1
        rewards_PG = earned_B.view(-1, group)

        def values(observations_RO: np.ndarray) -> np.ndarray:
            if critic is None:
                return np.zeros(len(observations_RO))
            nothing = torch.zeros(len(observations_RO), dtype=torch.int64)
            rows = torch.from_numpy(observations_RO).float()
            return critic.values(Transitions(rows, nothing, nothing, 1, {})).numpy()

        stops_ET = found.stops_ET & found.kept_ET
        return Experience(
            rewards_PG=rewards_PG,
            valid_PG=torch.ones_like(rewards_PG, dtype=torch.bool),
            truncated_PG=torch.from_numpy(found.cut_ET[stops_ET]).view(-1, group),
            sequence_A=whole.sequence_A,
            rewards_A=rewards_A,
            behaviour_A=whole.fields["behaviour"],
            after_B=found.after(values),
            values_A=None if critic is None else critic.values(whole),
        )

    def _note(self, found: Stretch, whole: Transitions, fields: Mapping[str, Tensor], seconds: float) -> None:
        self._recent = [*self._recent, *found.returns][-100:]
        self._metrics = {
            "tokens": float(whole.acted),
            "episodes": float(len(found.returns)),
            "collect_seconds": seconds,
        }
        if self._recent:
            self._metrics["reward"] = sum(self._recent) / len(self._recent)  # of the last hundred episodes
        if "returns" in fields:
            self._metrics["explained_variance"] = explained_variance(fields["predicted"], fields["returns"]).item()


def _divergence(policy: ControlPolicy, other: ControlPolicy | None, batch: Transitions) -> Tensor:
    return policy.divergence(other, batch)


def _parts(whole: Transitions, stage: ControlStage, random: np.random.Generator) -> Iterator[Transitions]:
    """The transitions of an epoch, in an order of its own, so many at a time; whole episodes are not torn up."""
    if stage.transitions_per_update == "all" or stage.episodes is not None:
        yield whole
        return
    order_A = torch.from_numpy(random.permutation(whole.acted))
    shuffled = (whole.observations_AO[order_A], whole.actions_A[order_A])
    fields = {name: values_A[order_A].split(stage.transitions_per_update) for name, values_A in whole.fields.items()}
    parts = zip(*(values.split(stage.transitions_per_update) for values in shuffled), strict=True)
    for number, (observations_AO, actions_A) in enumerate(parts):
        yield Transitions(
            observations_AO=observations_AO,
            actions_A=actions_A,
            sequence_A=torch.arange(len(actions_A)),
            sequences=len(actions_A),
            fields={name: values[number] for name, values in fields.items()},
        )
