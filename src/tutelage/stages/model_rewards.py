"""Rewards by models: `reward-model`, what one or several that were trained before make of an answer; and all kinds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PrivateAttr, model_validator

from tutelage.config import CompareStage, EvaluateStage, Recipe, RlStage, Stage, nearest
from tutelage.data.answers import tokens_after
from tutelage.data.chat import render_prompt
from tutelage.data.packing import Row
from tutelage.environments import Environment
from tutelage.errors import ConfigError
from tutelage.models import RewardModel
from tutelage.rewards import JudgeReward, MajorityReward, Reward, build_rewards
from tutelage.rewards.answers import Tag
from tutelage.rewards.base import Fault, Outcome, Spread, Told
from tutelage.rewards.thinking import Reads, refuse_idle_tag
from tutelage.seeds import derive_seed
from tutelage.stages.context import StageRun
from tutelage.stages.implicit_reward import ImplicitReward
from tutelage.stages.information_gain import InformationGain
from tutelage.stages.local_judge import LocalJudge
from tutelage.stages.named_models import refuse_unknown_models
from tutelage.stages.steps import Reduction, score_answers, score_steps, with_steps
from tutelage.training import State
from tutelage.types import Group, Prompt, Sample

_EMPTY: Final = Fault("it has no token to be scored at")
_BLANK: Final = Fault("it has no step to be scored at")


class ModelReward(Reward):
    """The score of a reward model, or of an ensemble of them (Coste et al., 2310.02743), at the answer's last token.

    `combine`: their mean; the worst of them; or `careful`, the mean less `deviations` standard deviations. Scores are
    clipped to +-`clip`, then `per_token` is taken off for each token of the answer, against a bias for length.

    A process reward model finds each step of an answer right with some probability, and `steps` makes one number of
    them. With `dense` each stands at its step's last token, as in Math-Shepherd (2312.08935), over the number of steps,
    which the paper does not do: the total is their mean, where a sum would pay for further steps.

    `reads = "answer"`: the model sees the prompt and the very tokens after the end of thinking, as if there had been
    none before them; an answer that never ended its thinking is an empty one.
    """

    isolated: ClassVar[bool] = False  # it shares the learner's device
    together: ClassVar[bool] = True  # many short answers go through it at once

    type: str = "reward-model"
    models: Annotated[tuple[str, ...], Field(min_length=1)]  # stages before this one, or folders
    combine: Literal["mean", "worst", "careful"] = "mean"
    deviations: NonNegativeFloat = 1.0  # for `careful`
    clip: PositiveFloat | None = None
    per_token: NonNegativeFloat = 0.0
    steps: Reduction = "min"  # for process reward models; Math-Shepherd's, the product in 2305.20050
    dense: bool = False  # for a process reward model: each step's reward at its end
    reads: Reads = "whole"  # or what follows the end of thinking
    think: Tag = "think"  # the tag of thinking
    tokens_per_microbatch: Annotated[int, Field(gt=0)] = 4096
    _loaded: tuple[RewardModel, ...] = PrivateAttr(())

    @model_validator(mode="after")
    def _refuse_what_has_no_effect(self) -> ModelReward:
        if len(self.models) == 1 and self.combine != "mean":
            raise ValueError(f"combine: '{self.combine}' is for several models; name more than one")
        if self.combine != "careful" and "deviations" in self.model_fields_set:
            raise ValueError("deviations: is for combine = 'careful'")
        refuse_idle_tag(self.reads, self.model_fields_set)
        if self.dense and self.reads != "whole":
            raise ValueError("reads: with dense every token of the answer has its reward; leave one of them out")
        if self.dense and (len(self.models) > 1 or self.clip is not None or "steps" in self.model_fields_set):
            raise ValueError(
                "dense: each step of one model's has its own reward, a probability; leave out further models, clip "
                "and steps"
            )
        return self

    @property
    def spreads(self) -> bool:
        return self.dense

    def loaded(self, run: StageRun) -> ModelReward:
        """The same with its models in memory. Raises ConfigError where they are not of the kind that it is told."""
        ready = self.model_copy()
        ready._loaded = tuple(run.load_reward_model(name) for name in self.models)
        of_steps = [model.separator is not None for model in ready._loaded]
        if len(set(of_steps)) > 1:
            steps, whole = self.models[of_steps.index(True)], self.models[of_steps.index(False)]
            raise ConfigError(
                f"reward '{self.label}': models: {steps} scores steps, {whole} whole answers; take one kind"
            )
        for key in sorted({"steps", "dense"} & self.model_fields_set):
            if not all(of_steps):
                raise ConfigError(
                    f"reward '{self.label}': {key}: {self.models[0]} scores whole answers and knows no steps; leave it "
                    "out, or train a reward model on steps"
                )
        return ready

    def score(self, prompt: Prompt, sample: Sample) -> float | Spread:
        (only,) = self.score_groups([Group(prompt, (), [sample])])[0]
        if isinstance(only, Fault):
            raise ValueError(only.reason)
        return only

    def score_groups(self, groups: Sequence[Group]) -> list[list[Told]]:
        """One score for each sample, or one for each of its tokens; a fault for one without any token or step."""
        if self.reads == "answer":
            groups = [self._answers(group) for group in groups]
        scored = iter(self._dense(groups) if self.dense else self._whole(groups))
        return [[next(scored) if sample.tokens else _EMPTY for sample in group.samples] for group in groups]

    def _answers(self, group: Group) -> Group:
        """The group with what its samples answered after their thinking."""
        tokenizer, mark = self._loaded[0].tokenizer, f"</{self.think}>"
        samples = [
            replace(sample, tokens=tokens_after(tokenizer, sample.tokens, mark)) if sample.tokens else sample
            for sample in group.samples
        ]
        return Group(group.prompt, group.prompt_tokens, samples)

    def _whole(self, groups: Sequence[Group]) -> list[Outcome]:
        """For each sample that has tokens, one number."""
        columns: list[Sequence[float | None]] = []
        for model in self._loaded:
            rows = _rows(model, groups)
            columns.append(score_answers(model, rows, self._budget(rows), self.steps))
        lengths = [len(sample.tokens) for group in groups for sample in group.samples if sample.tokens]
        return [
            _BLANK if None in scores else self._combined(scores) - self.per_token * length
            for *scores, length in zip(*columns, lengths, strict=True)
        ]

    def _dense(self, groups: Sequence[Group]) -> list[Told]:
        """For each sample that has tokens, as many numbers."""
        (model,) = self._loaded
        rows = [with_steps(row, model) for row in _rows(model, groups)]
        found: list[Told] = []
        for row, probabilities in zip(rows, score_steps(model, rows, self._budget(rows)), strict=True):
            tokens = [-self.per_token] * len(row.tokens)
            for end, probability in zip(row.actions, probabilities, strict=True):
                tokens[end] += probability / len(probabilities)
            found.append(Spread(tuple(tokens)) if probabilities else _BLANK)
        return found

    def _budget(self, rows: Sequence[Row]) -> int:
        longest = max((len(row.context) + len(row.tokens) for row in rows), default=0)
        return max(longest, self.tokens_per_microbatch)

    def _combined(self, scores: Sequence[float]) -> float:
        score = min(scores) if self.combine == "worst" else fmean(scores)
        if self.combine == "careful":
            score -= self.deviations * stdev(scores)
        return score if self.clip is None else max(-self.clip, min(self.clip, score))


def _rows(model: RewardModel, groups: Sequence[Group]) -> list[Row]:
    """The samples that have tokens, after their prompts."""
    return [
        Row(asked, tuple(sample.tokens), number)
        for number, group in enumerate(groups)
        for asked in [tuple(render_prompt(model.tokenizer, group.prompt))]
        for sample in group.samples
        if sample.tokens
    ]


LoadedReward = ModelReward | ImplicitReward | LocalJudge
MODEL_REWARDS: Final[Mapping[str, type[Reward]]] = {
    "reward-model": ModelReward,
    "implicit": ImplicitReward,
    "information-gain": InformationGain,
    "local-judge": LocalJudge,
}


def stage_rewards(
    stage: Stage, tables: Sequence[object], recipe: Recipe, environment: Environment
) -> tuple[Reward, ...]:
    """The rewards that a stage's tables declare, those of models too. Raises ConfigError with the remedy."""
    where = f"{stage.name}.rewards"
    built = build_rewards(tables, where, environment.scorer(), MODEL_REWARDS)
    rewards = tuple(reward.seeded(derive_seed(recipe.seed, "rewards")) for reward in built)
    _refuse_what_never_counts(stage, rewards, environment, where)
    for i, reward in enumerate(rewards):
        if reward.patience > getattr(stage, "reward_timeout", math.inf):
            raise ConfigError(
                f"{where}[{i}]: may take {reward.patience:g} s over an answer before it calls it wrong, and is killed "
                f"before that: raise {stage.name}.reward_timeout above it, or lower its own limits"
            )
        if isinstance(reward, ModelReward):
            refuse_unknown_models(reward.models, recipe.before(stage.name), f"{where}[{i}].models")
        if isinstance(reward, LocalJudge | ImplicitReward):
            reward.refuse_unknown_model(stage, recipe, f"{where}[{i}]")
        if isinstance(reward, LocalJudge | JudgeReward) and reward.mode == "pairs":
            _refuse_nothing_to_compare(stage, f"{where}[{i}].mode")
        if isinstance(reward, MajorityReward):
            _refuse_lone_answers(stage, f"{where}[{i}]: a majority of one is always right")
        if isinstance(reward, InformationGain) and not isinstance(stage, RlStage):
            raise ConfigError(
                f"{where}[{i}]: 'information-gain' compares a policy in training with its reference, which only rl "
                "stages have; take a predict stage"
            )
    return rewards


def with_models(rewards: Sequence[Reward], run: StageRun, state: State | None = None) -> tuple[Reward, ...]:
    """The rewards with their models in memory.

    Args:
        state: what an rl stage trains, and its reference.
    """
    return tuple(_ready(reward, run, state) for reward in rewards)


def _ready(reward: Reward, run: StageRun, state: State | None) -> Reward:
    if isinstance(reward, LoadedReward):
        return reward.loaded(run)
    if isinstance(reward, InformationGain) and state is not None and state.reference is not None:
        return reward.between(state.policy, state.reference)
    return reward


def _refuse_nothing_to_compare(stage: Stage, where: str) -> None:
    """Raises ConfigError for a judge of pairs where a prompt has one answer, or where comparing tells nothing."""
    if isinstance(stage, EvaluateStage):
        raise ConfigError(
            f"{where}: of a model's answers compared with one another half win, whatever they are worth; take mode = "
            "'grade', or a compare stage"
        )
    _refuse_lone_answers(stage, f"{where}: 'pairs' compares answers")


def _refuse_lone_answers(stage: Stage, why: str) -> None:
    """Raises ConfigError where a prompt has one answer. To compare, it has one of each contestant at least."""
    if isinstance(stage, CompareStage):
        return
    for key in ("completions_per_prompt", "answers", "samples"):
        if getattr(stage, key, 2) < 2:
            raise ConfigError(f"{why}; set {stage.name}.{key} to 2 or more")


def _refuse_what_never_counts(stage: Stage, rewards: Sequence[Reward], environment: Environment, where: str) -> None:
    """Raises ConfigError for a reward's `only` and `after` that change nothing, and for a part without any reward."""
    parts = environment.part_names
    for i, reward in enumerate(rewards):
        if reward.after and not isinstance(stage, RlStage):
            raise ConfigError(f"{where}[{i}].after: is a share of an rl stage's steps; {stage.name} has none")
        for name in reward.only:
            if name not in parts:
                hint = nearest(name, parts) if parts else "the environment is no mixture, leave it out"
                raise ConfigError(f"{where}[{i}].only: no part of the environment is called '{name}': {hint}")
    for part in parts:
        if all(reward.only and part not in reward.only for reward in rewards):
            raise ConfigError(f"{where}: none counts for the part '{part}'; name it in the `only` of one of them")
