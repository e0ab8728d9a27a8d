"""Rewards by models: `reward-model`, what one or several that were trained before make of an answer; and all kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PrivateAttr, model_validator

from tutelage.config import EvaluateStage, Recipe, Stage, nearest
from tutelage.data.chat import render_prompt
from tutelage.data.packing import Row
from tutelage.errors import ConfigError, ModelError
from tutelage.models import RewardModel, load_tokenizer
from tutelage.rewards import JudgeReward, Reward, build_rewards
from tutelage.rewards.base import Fault, Outcome
from tutelage.stages.context import StageRun
from tutelage.stages.judged import score_rows
from tutelage.stages.local_judge import LocalJudge
from tutelage.types import Group, Prompt, Sample

_EMPTY: Final = Fault("it has no token to be scored at")


class ModelReward(Reward):
    """The score of a reward model, or of an ensemble of them (Coste et al., 2310.02743), at the answer's last token.

    `combine`: their mean; the worst of them; or `careful`, the mean less `deviations` standard deviations. Scores are
    clipped to +-`clip`, then `per_token` is taken off for each token of the answer, against a bias for length.
    """

    isolated: ClassVar[bool] = False  # it shares the learner's device
    together: ClassVar[bool] = True  # many short answers go through it at once

    type: str = "reward-model"
    models: Annotated[tuple[str, ...], Field(min_length=1)]  # stages before this one, or folders
    combine: Literal["mean", "worst", "careful"] = "mean"
    deviations: NonNegativeFloat = 1.0  # for `careful`
    clip: PositiveFloat | None = None
    per_token: NonNegativeFloat = 0.0
    tokens_per_microbatch: Annotated[int, Field(gt=0)] = 4096
    _loaded: tuple[RewardModel, ...] = PrivateAttr(())

    @model_validator(mode="after")
    def _refuse_what_has_no_effect(self) -> ModelReward:
        if len(self.models) == 1 and self.combine != "mean":
            raise ValueError(f"combine: '{self.combine}' is for several models; name more than one")
        if self.combine != "careful" and "deviations" in self.model_fields_set:
            raise ValueError("deviations: is for combine = 'careful'")
        return self

    def refuse_tokenizer(self, policy: Path, where: str) -> None:
        """Raises ModelError where a folder's tokenizer has other tokens than the policy's: their numbers are scored."""
        words = load_tokenizer(policy).get_vocab()
        for name in self.models:
            if (Path(name) / "config.json").is_file() and load_tokenizer(Path(name)).get_vocab() != words:
                raise ModelError(
                    f"{where}.models: the tokenizer of {name} is another than the policy's, and token ids are scored "
                    "as they were sampled; train a reward model that begins with this policy, or one of its family"
                )

    def loaded(self, run: StageRun) -> ModelReward:
        """The same with its models in memory."""
        ready = self.model_copy()
        ready._loaded = tuple(run.load_reward_model(name) for name in self.models)
        return ready

    def score(self, prompt: Prompt, sample: Sample) -> float:
        (only,) = self.score_groups([Group(prompt, (), [sample])])[0]
        if isinstance(only, Fault):
            raise ValueError(only.reason)
        return only

    def score_groups(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """One score for each sample; a fault for one without any token, which has none to be scored at."""
        columns: list[list[float]] = []
        for model in self._loaded:
            rows = [
                Row(asked, tuple(sample.tokens), number)
                for number, group in enumerate(groups)
                for asked in [tuple(render_prompt(model.tokenizer, group.prompt))]
                for sample in group.samples
                if sample.tokens
            ]
            longest = max((len(row.context) + len(row.tokens) for row in rows), default=0)
            columns.append(score_rows(model, rows, max(longest, self.tokens_per_microbatch)))
        scores = iter(zip(*columns, strict=True))
        return [
            [
                self._combined(next(scores)) - self.per_token * len(sample.tokens) if sample.tokens else _EMPTY
                for sample in group.samples
            ]
            for group in groups
        ]

    def _combined(self, scores: Sequence[float]) -> float:
        score = min(scores) if self.combine == "worst" else fmean(scores)
        if self.combine == "careful":
            score -= self.deviations * stdev(scores)
        return score if self.clip is None else max(-self.clip, min(self.clip, score))


MODEL_REWARDS: Final[Mapping[str, type[Reward]]] = {"reward-model": ModelReward, "local-judge": LocalJudge}


def stage_rewards(stage: Stage, tables: Sequence[object], recipe: Recipe, task: Reward | None) -> tuple[Reward, ...]:
    """The rewards that a stage's tables declare, those of models too. Raises ConfigError with the remedy."""
    where = f"{stage.name}.rewards"
    rewards = build_rewards(tables, where, task, MODEL_REWARDS)
    for i, reward in enumerate(rewards):
        if isinstance(reward, ModelReward):
            refuse_unknown_models(reward.models, recipe.before(stage.name), f"{where}[{i}].models")
        if isinstance(reward, LocalJudge):
            reward.refuse_unknown_model(stage, recipe, f"{where}[{i}]")
        if isinstance(reward, LocalJudge | JudgeReward) and reward.mode == "pairs":
            _refuse_nothing_to_compare(stage, f"{where}[{i}].mode")
    return rewards


def refuse_unknown_models(names: Sequence[str], earlier: Sequence[Stage], where: str) -> None:
    """Raises ConfigError for a reward model that neither a stage before this one makes nor is a folder."""
    made = [stage.name for stage in earlier if stage.type == "reward-model"]
    for name in names:
        if name not in made and not (Path(name) / "config.json").is_file():
            raise ConfigError(
                f"{where}: '{name}' is neither a reward-model stage before this one nor a model's folder: "
                f"{nearest(name, made)}"
            )


def with_models(rewards: Sequence[Reward], run: StageRun) -> tuple[Reward, ...]:
    """The rewards with their models in memory."""
    return tuple(reward.loaded(run) if isinstance(reward, ModelReward | LocalJudge) else reward for reward in rewards)


def refuse_other_tokenizers(rewards: Sequence[Reward], policy: Path, where: str) -> None:
    """Raises ModelError for a model whose tokenizer is not what its reward needs.

    Args:
        policy: the recipe's model.
    """
    for i, reward in enumerate(rewards):
        if isinstance(reward, ModelReward | LocalJudge):
            reward.refuse_tokenizer(policy, f"{where}[{i}]")


def _refuse_nothing_to_compare(stage: Stage, where: str) -> None:
    """Raises ConfigError for a judge of pairs where a prompt has one answer, or where comparing tells nothing."""
    if isinstance(stage, EvaluateStage):
        raise ConfigError(
            f"{where}: of a model's answers compared with one another half win, whatever they are worth; take mode = "
            "'grade', or a compare stage"
        )
    for key in ("completions_per_prompt", "answers"):
        if getattr(stage, key, 2) < 2:
            raise ConfigError(f"{where}: 'pairs' compares answers; set {stage.name}.{key} to 2 or more")
