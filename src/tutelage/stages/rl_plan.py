"""What an `rl` stage is, resolved and checked before a weight is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tutelage.algorithms import Algorithm, Distillation, build_algorithm
from tutelage.config import Recipe, RlStage, nearest
from tutelage.data import Conversation
from tutelage.data.packing import Row
from tutelage.environments import Corpus, Environment, SelfPlay
from tutelage.errors import ConfigError
from tutelage.rewards import Reward
from tutelage.stages.context import environment_before, prompts_of
from tutelage.stages.conversations import conversation_rows, made_conversations, planned_conversations, stages_in
from tutelage.stages.information_gain import InformationGain
from tutelage.stages.model_rewards import stage_rewards
from tutelage.stages.named_models import refuse_unknown_models
from tutelage.stages.self_play import check_self_play
from tutelage.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class RlPlan:
    """The stage with everything resolved that can be known before a weight is loaded."""

    stage: RlStage
    algorithm: Algorithm
    environment: Environment
    rewards: tuple[Reward, ...]
    prompts: Sequence[Prompt]  # in self-play: examples of what it brings
    texts: Sequence[Conversation] = ()  # to raise the likelihood of in the same updates

    @property
    def total_steps(self) -> int:
        return self.stage.steps

    @property
    def updates(self) -> int:
        """Of the weights, in a step."""
        return self.stage.updates_per_epoch * self.stage.epochs

    @property
    def credit_reads_scores(self) -> bool:
        """Must the policy score its samples before they are credited?"""
        algorithm = self.algorithm
        return algorithm.needs_critic is not None or (algorithm.kl > 0.0 and algorithm.kl_in == "reward")

    @property
    def scores_itself(self) -> bool:
        """Must the policy score its samples before it moves?"""
        several = self.updates > 1 or self.stage.replay > 0 or self.algorithm.trust_region is not None
        return several or self.credit_reads_scores

    @property
    def played(self) -> bool:
        """Is the environment one of self-play?"""
        return isinstance(self.environment, SelfPlay)

    @property
    def holds_reference(self) -> bool:
        """Is the anchor a model of its own? With LoRA it is the policy without its adapter.

        Not so for the exact KL, whose two distributions are wanted side by side. A reward may want one, too.
        """
        algorithm, stage = self.algorithm, self.stage
        if gains(self.rewards):
            return True
        apart = stage.lora is None or stage.reference.model is not None or algorithm.kl_estimator == "exact"
        return algorithm.needs_reference and apart


def plan_rl(stage: RlStage, recipe: Recipe, must_reach: bool) -> RlPlan:
    """Resolves and checks the stage. Raises ConfigError or DataError with the remedy."""
    algorithm = build_algorithm(stage.algorithm, f"{stage.name}.algorithm")
    environment = environment_before(recipe, stage.environment, stage.name)
    if isinstance(environment, SelfPlay):
        check_self_play(stage, algorithm, environment)
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
    rewards = stage_rewards(stage, stage.rewards, recipe, environment)
    _refuse_contradictions(stage, algorithm, recipe, rewards)
    _refuse_unrewarded(stage, rewards, environment)
    if gains(rewards) and not isinstance(environment, Corpus):
        raise ConfigError(
            f"{stage.name}.rewards: 'information-gain' is about the next tokens of an environment of the type "
            f"'corpus', and '{stage.environment}' is '{environment.type}'; take the reward 'task'"
        )
    if algorithm.needs_process and not any(_always_spreads(reward) for reward in rewards):
        raise ConfigError(
            f"{stage.name}.rewards: '{algorithm.type}' reads what single tokens earned, and none of these tells, from "
            "the first step on and for every prompt: add { type = 'implicit', model = ... }, or a process reward model "
            "with dense = true, or take 'rloo'"
        )
    prompts = _prompts(environment, stage, must_reach)
    texts: Sequence[Conversation] = ()
    if stage.pretraining is not None:
        source, where = stage.pretraining.source, f"{stage.name}.pretraining.source"
        texts = planned_conversations(source, recipe, stage.name, where, must_reach)
    return RlPlan(stage, algorithm, environment, rewards, prompts, texts)


def _refuse_unrewarded(stage: RlStage, rewards: Sequence[Reward], environment: Environment) -> None:
    """Raises ConfigError where the answers to some prompts would all earn the same, from the first step on."""
    for part in environment.part_names or (None,):
        where, of_part = f"{stage.name}.rewards", "" if part is None else f" of the part '{part}'"
        own = [reward for reward in rewards if not reward.only or part in reward.only]
        if not any(reward.weight for reward in own):
            raise ConfigError(
                f"{where}: every weight{of_part} is 0, so the reward never varies and nothing can be learned; give one "
                "of them a weight"
            )
        if not any(reward.weight for reward in own if not reward.after):
            raise ConfigError(
                f"{where}: before after = {min(reward.after for reward in own if reward.weight)} no reward{of_part} "
                "counts, and nothing can be learned; give one that counts from the beginning"
            )


def _always_spreads(reward: Reward) -> bool:
    """Does it tell what single tokens earned, of every answer from the first step on?"""
    return bool(reward.spreads and reward.weight and not reward.only and not reward.after)


def _prompts(environment: Environment, stage: RlStage, must_reach: bool) -> Sequence[Prompt]:
    if isinstance(environment, SelfPlay):
        return environment.examples()
    return prompts_of(environment, stage.split, must_reach)


def with_texts(plan: RlPlan, made: Mapping[str, Path]) -> RlPlan:
    """The plan with the texts that stages before it have left, where its `pretraining` reads some."""
    settings = plan.stage.pretraining
    if settings is None or not stages_in(settings.source):
        return plan
    where = f"{plan.stage.name}.pretraining.source"
    return replace(plan, texts=made_conversations(settings.source, made, where))


def text_rows(plan: RlPlan, tokenizer: PreTrainedTokenizerBase, context: int) -> list[Row]:
    """The rows of its `pretraining`; none where it has none. Raises DataError for a text that does not fit."""
    stage = plan.stage
    if stage.pretraining is None:
        return []
    where, budget = f"{stage.name}.pretraining.source", stage.tokens_per_microbatch
    return conversation_rows(tokenizer, plan.texts, stage.pretraining.loss_on, context, budget, where)


def gains(rewards: Sequence[Reward]) -> list[InformationGain]:
    """The rewards that compare the policy with the reference."""
    return [reward for reward in rewards if isinstance(reward, InformationGain)]


def _refuse_contradictions(stage: RlStage, algorithm: Algorithm, recipe: Recipe, rewards: Sequence[Reward]) -> None:
    """Options that cannot hold together, or would change nothing."""
    name = stage.name
    teacher = stage.reference.model
    if gains(rewards) and not stage.reference.moves:
        raise ConfigError(
            f"{name}.reference: 'information-gain' compares with a policy that sees no thought and follows this one; "
            "set reference = { ema = 0.999 }"
        )
    if stage.dynamic_from is not None and stage.completions_per_prompt < 2:
        raise ConfigError(
            f"{name}.dynamic_from: one answer to a prompt is always a group of equal rewards; set "
            "completions_per_prompt to 2 or more, or leave it out"
        )
    if (stage.reference.moves or teacher is not None) and not (algorithm.needs_reference or gains(rewards)):
        raise ConfigError(f"{name}.reference: '{algorithm.type}' has no reference here; set algorithm.kl above 0")
    if teacher is not None and teacher not in (known := recipe.policies_before(name)):
        raise ConfigError(
            f"{name}.reference.model: '{teacher}' is neither a stage before this one nor one of the recipe's models: "
            f"{nearest(teacher, known)}"
        )
    if teacher is None and isinstance(algorithm, Distillation):
        raise ConfigError(
            f"{name}.reference: 'distillation' learns from a teacher; name it: reference = {{ model = NAME }}"
        )
    if isinstance(algorithm, Distillation) and stage.scale_rewards:
        raise ConfigError(
            f"{name}.scale_rewards: 'distillation' learns from its teacher and reads no reward; leave it out"
        )
    if algorithm.kl and algorithm.kl_estimator == "exact" and stage.sampling.filtered:
        raise ConfigError(
            f"{name}.sampling: an exact KL is one of whole distributions, which top_k, top_p and min_p cut off: leave "
            "them out, or take another algorithm.kl_estimator"
        )
    if stage.ratio_to == "sampler" and stage.correction.kind != "none":
        raise ConfigError(
            f"{name}.correction: with ratio_to = 'sampler' the ratio itself corrects for the sampler; drop one of both"
        )
    if algorithm.weighs_answers and stage.correction.kind != "none":
        raise ConfigError(
            f"{name}.correction: '{algorithm.type}' weighs whole answers, which weights of single tokens would undo; "
            "leave it out, and set ratio_to = 'sampler' for the answer's own ratio to correct"
        )
    if stage.replay and stage.ratio_to == "learner" and stage.correction.kind == "none":
        raise ConfigError(
            f"{name}.replay: an older policy wrote those answers, and nothing here corrects for it: set ratio_to = "
            "'sampler', or correction = { kind = 'truncate' }"
        )
    critic = algorithm.needs_critic
    if stage.lora is not None:
        apart = critic is not None and critic.kind == "model" and critic.start is None
        if apart or stage.reference.moves or algorithm.trust_region is not None:
            raise ConfigError(
                f"{name}.lora: only the factors are trained, which leaves no place for a critic that begins as the "
                "policy's copy (give it a start, or kind = 'head'), a reference that moves, or a trust region"
            )
    if critic is not None and critic.start is not None:
        refuse_unknown_models([critic.start], recipe.before(name), f"{name}.algorithm.critic.start")
    if algorithm.trust_region is None:
        return
    if stage.pretraining is not None:
        raise ConfigError(
            f"{name}.pretraining: '{algorithm.type}' bounds one objective's step by its KL, beside which another's has "
            "no place; leave it out, or take 'ppo'"
        )
    if recipe.compute == "bf16" or recipe.compile_layers:
        raise ConfigError(
            f"{name}.algorithm: '{algorithm.type}' needs second derivatives in fp32: set compute = 'fp32' or 'auto', "
            "and compile_layers = false"
        )
    if stage.sampling.filtered:
        raise ConfigError(
            f"{name}.sampling: '{algorithm.type}' bounds the KL of whole distributions, which top_k, top_p and min_p "
            "cut off; leave them out"
        )
