"""A step's groups: sampled, rewarded, recorded; others sampled in place of those that teach nothing."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from statistics import fmean
from time import perf_counter

import torch
from torch import Tensor

from tutelage.config import Sampling
from tutelage.data.answers import render_answer
from tutelage.engines import Engine
from tutelage.environments import SelfPlay
from tutelage.errors import FailedSamplesError, GuardError, NothingToLearnError
from tutelage.functional import advantages
from tutelage.models import Policy
from tutelage.rewards import BackgroundScoring, RewardSuite
from tutelage.rollouts import play_out, record_samples, roll_out
from tutelage.seeds import derive_seed
from tutelage.stages.context import StageRun, write_json
from tutelage.stages.experience import rewards_of
from tutelage.stages.quarantine import Quarantine
from tutelage.stages.rl_plan import RlPlan
from tutelage.training import Memory
from tutelage.types import Group, Prompt, Sample


class Collector:
    """Asks the prompts of a step and has the answers rewarded, or has its games played.

    `metrics` are of the step that was asked last. What later steps must know goes into the memory when `remember` is
    called, not before: until then the step can be given up.
    """

    def __init__(
        self, plan: RlPlan, run: StageRun, engine: Engine, suite: RewardSuite, memory: Memory | None = None
    ) -> None:
        self.plan, self.run, self.stage = plan, run, plan.stage
        self.engine, self.suite = engine, suite
        self.memory = memory or Memory()
        self.quarantine = Quarantine(plan.stage, self.memory)
        self._found: list[str] = []
        self.metrics: dict[str, float] = {}
        self._seen: list[Group] = []

    def collect(self, policy: Policy, step: int) -> list[Group]:
        """As many groups as the stage asks prompts in a step, all informative to the algorithm and within the band.

        In self-play: all that was asked in as many episodes.

        Raises:
            FailedSamplesError: too large a share of the samples could not be rewarded.
            NothingToLearnError: the rounds of sampling are used up.
        """
        if isinstance(self.plan.environment, SelfPlay):
            return self._play(self.plan.environment, policy, step)
        stage, kept = self.stage, list[Group]()
        self._seen, seconds = [], [0.0, 0.0]
        for attempt in range(stage.refills + 1):
            missing = stage.prompts_per_step - len(kept)
            prompts = self.quarantine.prompts_of_step(self.plan.prompts, step, attempt, self.run.seed)[:missing]
            groups = self._ask(policy, prompts, step, attempt, seconds)
            self._seen += groups
            _refuse_stale(groups, policy.version)
            record_samples(self.run.samples, stage.name, step + 1, groups)
            self._refuse_failures(groups)
            informative = self._informative(groups, step).tolist()
            kept += [group for group, keeps in zip(groups, informative, strict=True) if keeps and self._in_band(group)]
            if len(kept) == stage.prompts_per_step:
                break
        self.metrics = sample_metrics(self._seen)
        self.metrics |= {"generate_seconds": seconds[0], "reward_seconds": seconds[1], "groups": float(len(self._seen))}
        if self.memory.quarantined:
            self.metrics["quarantined"] = float(len(self.memory.quarantined))
        if len(kept) < stage.prompts_per_step:
            raise NothingToLearnError(self._what_was_seen(step, len(kept)))
        return kept

    def remember(self) -> None:
        """Puts into the memory what the step that was asked last has told."""
        self.memory.found = [*self.memory.found, *self._found]
        for name, reason in self.quarantine.judge(self._seen):
            self.run.progress.note(f"{self.stage.name}: prompt {name!r} is asked no more: {reason}")
            write_json(self.run.folder / "quarantined.json", self.memory.quarantined)

    def greedy(self, policy: Policy, groups: Sequence[Group], step: int) -> Tensor:
        """[P] what the greedy answer to each group's prompt earns; the group's mean where its reward fails."""
        sampling = self.stage.sampling_at(step).model_copy(update={"temperature": 0.0})
        seed, seconds = derive_seed(self.run.seed, "greedy", step), [0.0, 0.0]
        answers = self._rewarded(policy, [group.prompt for group in groups], 1, sampling, seed, seconds)
        for name, spent in zip(("generate_seconds", "reward_seconds"), seconds, strict=True):
            self.metrics[name] += spent
        earned = [answer.samples[0].reward for answer in answers]
        rewards_PG, valid_PG = rewards_of(groups)
        mean_P = (rewards_PG * valid_PG).sum(1) / valid_PG.sum(1).clamp(min=1)
        return torch.tensor([mean_P[i].item() if reward is None else reward for i, reward in enumerate(earned)])

    def _in_band(self, group: Group) -> bool:
        """Is the prompt neither too hard nor too easy, by what the policy's own answers earned?"""
        if self.stage.band is None:
            return True
        earned = [sample.reward for sample in group.samples if sample.reward is not None and not sample.expert]
        return bool(earned) and self.stage.band[0] <= fmean(earned) <= self.stage.band[1]

    def _play(self, environment: SelfPlay, policy: Policy, step: int) -> list[Group]:
        """Every group of the step's self-play. What a move is worth is known when its game is over."""
        stage, seed = self.stage, derive_seed(self.run.seed, "sample", step)
        episodes = range(step * stage.prompts_per_step, (step + 1) * stage.prompts_per_step)
        found = list(self.memory.found)
        play = environment.play(episodes, stage.completions_per_prompt, seed, found)
        started = perf_counter()
        self._seen = play_out(
            self.engine,
            policy.tokenizer,
            play,
            stage.sampling_at(step),
            seed,
            watch=lambda done, asked: self.run.progress.progress(done, asked, "samples"),
        )
        self._found = found[len(self.memory.found) :]
        spent = {"generate_seconds": perf_counter() - started, "reward_seconds": 0.0}
        _refuse_stale(self._seen, policy.version)
        record_samples(self.run.samples, stage.name, step + 1, self._seen)
        self.metrics = {**sample_metrics(self._seen), **role_metrics(self._seen), **spent}
        self.metrics["groups"] = float(len(self._seen))
        mixed = list(self._seen)  # so that each of several updates sees moves of all plies
        Random(seed).shuffle(mixed)
        return mixed

    def _ask(
        self, policy: Policy, prompts: Sequence[Prompt], step: int, attempt: int, seconds: list[float]
    ) -> list[Group]:
        self.suite.progress = step / self.stage.steps  # a function of the step: a resumed run counts the same
        place = (step, attempt) if attempt else (step,)
        seed = derive_seed(self.run.seed, "sample", *place)
        own = self.stage.completions_per_prompt - self.plan.algorithm.needs_expert
        return self._rewarded(
            policy, prompts, own, self.stage.sampling_at(step), seed, seconds, self.plan.algorithm.needs_expert
        )

    def _with_expert(self, policy: Policy, group: Group) -> Group:
        """The group with the environment's demonstration as its last answer."""
        prompt, shown = group.prompt, self.plan.environment.demonstration(group.prompt)
        _, tokens = render_answer(policy.tokenizer, prompt, shown)
        group.samples.append(
            Sample(
                prompt_id=prompt.id,
                index=len(group.samples),
                tokens=tokens,
                logprobs=[0.0] * len(tokens),
                text=shown,
                finish="stop",
                version=policy.version,
                expert=True,
            )
        )
        return group

    def _rewarded(
        self,
        policy: Policy,
        prompts: Sequence[Prompt],
        completions: int,
        sampling: Sampling,
        seed: int,
        seconds: list[float],
        guided: bool = False,
    ) -> list[Group]:
        """Samples and rewards, the second beside the first. Adds to the seconds of both."""
        wanted = len(prompts) * completions
        started = perf_counter()
        with BackgroundScoring(self.suite) as scoring:
            groups = roll_out(
                self.engine,
                policy.tokenizer,
                prompts,
                completions,
                sampling,
                seed,
                watch=lambda done, _: self.run.progress.progress(done, wanted, "samples"),
                finished=lambda group: scoring.add(self._with_expert(policy, group) if guided else group),
            )
            sampled = perf_counter()
            scoring.wait()
        seconds[0] += sampled - started
        seconds[1] += perf_counter() - sampled
        return groups

    def _informative(self, groups: Sequence[Group], step: int) -> Tensor:
        """[P] bool: by the algorithm's own measure, or, where the stage says from when on, by their spread."""
        rewards_PG, valid_PG = rewards_of(groups)
        if self.stage.dynamic_from is None:
            return self.plan.algorithm.informative(rewards_PG, valid_PG)
        if step < self.stage.dynamic_from:
            return torch.ones(len(groups), dtype=torch.bool)
        return advantages.group_centred(rewards_PG, valid_PG).ne(0).any(1)

    def _what_was_seen(self, step: int, kept: int) -> str:
        stage, algorithm = self.stage, self.plan.algorithm
        flat = "all answers earned the same"
        outside = flat if stage.band is None else f"{flat}, or on average not {stage.band[0]:g} to {stage.band[1]:g}"
        return (
            f"step {step + 1}: '{algorithm.type}' could learn from {kept} of {stage.prompts_per_step} groups wanted, "
            f"after {stage.refills + 1} rounds and {len(self._seen)} groups; the mean reward was "
            f"{self.metrics['reward']:.3g}, and within the others {outside}. Take easier or harder prompts, more "
            f"completions_per_prompt, a finer reward, {'' if stage.band is None else 'a wider band, '}or more refills"
        )

    def _refuse_failures(self, groups: Sequence[Group]) -> None:
        failures = [sample.failure for group in groups for sample in group.samples if sample.failure]
        total = sum(len(group.samples) for group in groups)
        if len(failures) > self.stage.max_failed_share * total:
            raise FailedSamplesError(
                f"{len(failures)} of the step's {total} samples could not be rewarded, more than max_failed_share = "
                f"{self.stage.max_failed_share}; the first: {failures[0]}; all are in samples.jsonl"
            )


def _refuse_stale(groups: Sequence[Group], version: int) -> None:
    """Raises GuardError where the sampler worked with other weights than the policy's newest."""
    other = {sample.version for group in groups for sample in group.samples} - {version}
    if other:
        raise GuardError(
            f"the engine sampled with version {', '.join(map(str, sorted(other)))} of the weights, and the policy's is "
            f"{version}: it has not taken over the last update, so its samples are nobody's. That is a fault of the "
            "engine; another one (engine = 'transformers') tells"
        )


def sample_metrics(groups: Sequence[Group]) -> dict[str, float]:
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
        "failed_share": 1.0 - len(rewarded) / len(samples),
        "distinct": sum(len({s.text for s in g.samples}) / len(g.samples) for g in groups) / len(groups),
        "tokens": float(sum(len(sample.tokens) for sample in rewarded)),
    }
    if any(len(group.samples) > 1 for group in groups):  # one answer has no spread to lack
        numbers["zero_spread_groups"] = sum(flat) / len(groups)
    for label in dict.fromkeys(label for sample in rewarded for label in sample.rewards):
        numbers["score" if label == "task" else f"reward/{label}"] = _mean(label, rewarded)
    for part in sorted({group.prompt.part for group in groups if group.prompt.part is not None}):
        own = [sample for group in groups if group.prompt.part == part for sample in group.samples]
        if any("task" in sample.rewards for sample in own if sample.reward is not None):
            numbers[f"score/{part}"] = _mean("task", own)
    return numbers


def _mean(label: str, samples: Sequence[Sample]) -> float:
    """Of one component, over the rewarded samples that have it."""
    return fmean(sample.rewards[label] for sample in samples if sample.reward is not None and label in sample.rewards)


def role_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """What each role earned in self-play: the mean over episodes of the mean over its samples."""
    earned: dict[str, dict[int | None, list[float]]] = {}
    for group in groups:
        for sample in group.samples:
            of_role = earned.setdefault(f"reward/{group.role}", {})
            of_role.setdefault(sample.episode, []).append(sample.reward or 0.0)
    return {
        role: sum(sum(some) / len(some) for some in episodes.values()) / len(episodes)
        for role, episodes in earned.items()
    }
