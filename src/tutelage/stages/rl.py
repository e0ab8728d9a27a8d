"""The `rl` stage: prompts -> groups -> rewards -> credit -> packed batches -> loss -> update."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter

import torch

from tutelage.algorithms import Algorithm, build_algorithm
from tutelage.config import Recipe, RlStage
from tutelage.data.packing import Row, pack
from tutelage.engines import Engine, build_engine
from tutelage.environments import Environment, build_environment
from tutelage.errors import ConfigError, FailedSamplesError, NonFiniteError
from tutelage.models import Policy
from tutelage.rewards import BackgroundScoring, Reward, RewardSuite, build_rewards
from tutelage.rollouts import prompts_of_step, record_samples, roll_out
from tutelage.seeds import derive_seed
from tutelage.stages.context import Result, StageRun, prompts_of, write_json
from tutelage.training import State, fit
from tutelage.types import Actions, Batch, Group, Loss, Prompt


@dataclass(frozen=True, slots=True)
class RlPlan:
    """The stage with everything resolved that can be known before a weight is loaded."""

    stage: RlStage
    algorithm: Algorithm
    environment: Environment
    rewards: tuple[Reward, ...]
    prompts: Sequence[Prompt]

    @property
    def total_steps(self) -> int:
        return self.stage.steps


def plan_rl(stage: RlStage, recipe: Recipe, must_reach: bool) -> RlPlan:
    """Resolves and checks the stage. Raises ConfigError or DataError with the remedy."""
    algorithm = build_algorithm(stage.algorithm, f"{stage.name}.algorithm")
    algorithm.check_group_size(stage.completions_per_prompt, f"{stage.name}.completions_per_prompt")
    if stage.sampling.greedy:
        raise ConfigError(
            f"{stage.name}.sampling.temperature: 0 samples the same answer again and again, so nothing can be learned "
            "from comparing; use 1.0"
        )
    if stage.updates_per_epoch > stage.prompts_per_step:
        raise ConfigError(
            f"{stage.name}.updates_per_epoch: {stage.updates_per_epoch} updates cannot be cut out of "
            f"{stage.prompts_per_step} prompts; raise prompts_per_step or lower updates_per_epoch"
        )
    environment = build_environment(recipe.environments[stage.environment], f"environments.{stage.environment}")
    rewards = build_rewards(stage.rewards, f"{stage.name}.rewards", environment.scorer())
    return RlPlan(stage, algorithm, environment, rewards, prompts_of(environment, stage.split, must_reach))


def run_rl(plan: RlPlan, run: StageRun) -> Result:
    """Trains the policy by reinforcement and saves it."""
    policy = run.load_policy()
    reference = policy.frozen_copy() if plan.algorithm.needs_reference else None
    state = run.begin(policy, plan.stage.optimizer)
    engine = build_engine(run.recipe.engine, policy)
    with RewardSuite(plan.rewards, plan.stage.reward_timeout) as suite:
        task = RlTask(plan, run, engine, reference, suite)
        try:
            fit(task, state, run.checkpoints, plan.stage.checkpoints, run.record, run.offsets)
        except NonFiniteError as error:
            raise NonFiniteError(f"{error}; {task.keep_evidence(state.step + 1)}") from error
    return {"type": "rl", "steps": state.step, "saved": run.save_model(policy)}


class RlTask:
    """What `fit` trains: a policy against rewards on its own samples."""

    def __init__(
        self, plan: RlPlan, run: StageRun, engine: Engine, reference: Policy | None, suite: RewardSuite
    ) -> None:
        self.plan, self.run, self.stage = plan, run, plan.stage
        self.engine, self.reference, self.suite = engine, reference, suite
        self.total_steps = plan.stage.steps
        self._groups: list[Group] = []
        self._metrics: dict[str, float] = {}
        self._began = self._learning_since = 0.0

    def minibatches(self, state: State) -> Iterator[Sequence[Batch]]:
        """Rolls out, scores, credits; then the micro-batches of every update of the step."""
        self._began = perf_counter()
        groups = self._experience(state)
        updates = [self._batches(part) for part in _share_out(groups, self.stage.updates_per_epoch)]
        updates = [batches for batches in updates if batches]
        self._learning_since = perf_counter()
        on_policy = len(updates) * self.stage.epochs == 1
        whole = [batch for batches in updates for batch in batches]
        self._metrics["skipped"] = _skipped_share(whole)
        for batch in whole:
            if len(batch.action_A):
                self._add_logprobs(state.policy, batch, on_policy)
        for _ in range(self.stage.epochs):
            yield from updates

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        """The algorithm's loss, with the gap between sampler and learner beside it."""
        logprobs_A, entropy_A = policy.score(batch, self.stage.sampling)
        # On-policy the learner's own log-probabilities are the denominator: the ratio is 1, its gradient is not.
        behaviour_A = batch.fields.get("behaviour", logprobs_A.detach())
        loss = self.plan.algorithm.loss(
            Actions(
                logprobs_A=logprobs_A,
                entropy_A=entropy_A,
                advantages_A=batch.fields["advantages"].to(logprobs_A.device),
                behaviour_A=behaviour_A,
                reference_A=batch.fields.get("reference"),
                sequence_A=batch.sequence_A.to(logprobs_A.device),
                sequences=batch.sequences,
            )
        )
        gap_A = (behaviour_A - batch.fields["sampler"].to(behaviour_A.device)).abs()
        mismatch = {"mismatch": gap_A.sum(), "mismatch_max": gap_A.max()}
        return Loss(loss.total, loss.unit, {**loss.metrics, **mismatch})

    def metrics(self) -> Mapping[str, float]:
        now, numbers = perf_counter(), self._metrics
        learning = now - self._learning_since
        accounted = numbers["generate_seconds"] + numbers["reward_seconds"] + learning
        return {**numbers, "learn_seconds": learning, "overhead_seconds": now - self._began - accounted}

    def _experience(self, state: State) -> list[Group]:
        """The step's groups, rewarded and recorded."""
        stage, step = self.stage, state.step
        asked = prompts_of_step(self.plan.prompts, step, stage.prompts_per_step, self.run.seed)
        wanted = stage.prompts_per_step * stage.completions_per_prompt
        started = perf_counter()
        with BackgroundScoring(self.suite) as scoring:
            groups = roll_out(
                self.engine,
                state.policy.tokenizer,
                asked,
                stage.completions_per_prompt,
                stage.sampling,
                derive_seed(self.run.seed, "sample", step),
                watch=lambda done, _: self.run.progress.progress(done, wanted, "samples"),
                finished=scoring.add,
            )
            sampled = perf_counter()
            scoring.wait()
        scored = perf_counter()
        self._groups = groups
        record_samples(self.run.samples, stage.name, step + 1, groups)
        self._metrics = {
            **_sample_metrics(groups),
            "generate_seconds": sampled - started,
            "reward_seconds": scored - sampled,
        }
        self._refuse_failures(groups)
        return groups

    def _refuse_failures(self, groups: Sequence[Group]) -> None:
        failures = [sample.failure for group in groups for sample in group.samples if sample.failure]
        total = sum(len(group.samples) for group in groups)
        if len(failures) > self.stage.max_failed_share * total:
            raise FailedSamplesError(
                f"{len(failures)} of the step's {total} samples could not be rewarded, more than max_failed_share = "
                f"{self.stage.max_failed_share}; the first: {failures[0]}; all are in samples.jsonl"
            )

    def _batches(self, groups: Sequence[Group]) -> list[Batch]:
        """Credits the groups and packs what was rewarded."""
        rewards_PG = torch.tensor(
            [[0.0 if sample.reward is None else sample.reward for sample in group.samples] for group in groups]
        )
        valid_PG = torch.tensor([[sample.reward is not None for sample in group.samples] for group in groups])
        advantages_PG = self.plan.algorithm.credit(rewards_PG, valid_PG)
        rows = [
            Row(
                group.prompt_tokens,
                tuple(sample.tokens),
                number,
                fields={"advantages": advantages_PG[number, place].item(), "sampler": sample.logprobs},
                skipped=advantages_PG[number, place].item() == 0.0 and not self.plan.algorithm.needs_zero_advantage,
            )
            for number, group in enumerate(groups)
            for place, sample in enumerate(group.samples)
            if sample.reward is not None
        ]
        return pack(rows, self.stage.tokens_per_microbatch)

    @torch.no_grad()
    def _add_logprobs(self, policy: Policy, batch: Batch, on_policy: bool) -> None:
        """What is needed before the policy moves: its own log-probabilities, unless on-policy, and the reference's."""
        if not on_policy:
            batch.fields["behaviour"] = policy.score(batch, self.stage.sampling)[0]
        if self.reference is not None:
            batch.fields["reference"] = self.reference.score(batch, self.stage.sampling)[0]

    def keep_evidence(self, step: int) -> str:
        """Keeps the samples of a step that was not applied, and says where."""
        path = self.run.folder / f"failed-step-{step:06d}.json"
        samples = [
            {"prompt_id": s.prompt_id, "prompt_tokens": g.prompt_tokens, "tokens": s.tokens, "logprobs": s.logprobs,
             "reward": s.reward, "text": s.text}
            for g in self._groups
            for s in g.samples
        ]  # fmt: skip
        write_json(path, samples)
        return f"step {step} was not applied and its samples are kept in {path}"


def _share_out(groups: Sequence[Group], parts: int) -> list[Sequence[Group]]:
    """The groups in `parts` portions of (nearly) equal size."""
    cuts = [len(groups) * i // parts for i in range(parts + 1)]
    return [groups[a:b] for a, b in pairwise(cuts)]


def _skipped_share(batches: Sequence[Batch]) -> float:
    """Of the rewarded tokens, those that were not computed."""
    skipped = sum(batch.skipped_tokens for batch in batches)
    return skipped / max(1, skipped + sum(len(batch.action_A) for batch in batches))


def _sample_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """What the step's samples were like."""
    samples = [sample for group in groups for sample in group.samples]
    rewarded = [sample for sample in samples if sample.reward is not None]
    rewards = torch.tensor([sample.reward for sample in rewarded])
    flat = [len({sample.reward for sample in group.samples if sample.reward is not None}) <= 1 for group in groups]
    numbers = {
        "reward": rewards.mean().item() if rewarded else 0.0,
        "reward_std": rewards.std(correction=0).item() if rewarded else 0.0,
        "length": sum(len(sample.tokens) for sample in samples) / len(samples),
        "truncated": sum(sample.finish == "length" for sample in samples) / len(samples),
        "failed": float(len(samples) - len(rewarded)),
        "zero_spread_groups": sum(flat) / len(groups),
        "distinct": sum(len({s.text for s in g.samples}) / len(g.samples) for g in groups) / len(groups),
        "tokens": float(sum(len(sample.tokens) for sample in rewarded)),
    }
    for label in rewarded[0].rewards if rewarded else ():
        mean = sum(sample.rewards[label] for sample in rewarded) / len(rewarded)
        numbers["score" if label == "task" else f"reward/{label}"] = mean
    return numbers
