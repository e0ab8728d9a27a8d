"""What a recipe comes to: every part resolved, every mistake that can be known beforehand refused, sizes derived."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tutelage.config import BASE, LEAVES, Architecture, Recipe, RlStage, Table, Tokenizer, check_used, reads
from tutelage.engines import engine_for
from tutelage.errors import DataError, ModelError
from tutelage.models import (
    ResolvedModel,
    count_parameters,
    describe,
    fetch,
    llama_config,
    load_tokenizer,
    resolve,
)
from tutelage.pipelines.overlap import overlap_before
from tutelage.pipelines.vocabularies import check_vocabularies
from tutelage.rollouts import check_prompts
from tutelage.stages import (
    AskingPlan,
    ComparePlan,
    ControlPlan,
    EvaluatePlan,
    InformationGain,
    LabelPlan,
    PerplexityPlan,
    Plan,
    PlayPlan,
    PositionsPlan,
    PredictPlan,
    PreferencePlan,
    PretrainPlan,
    PrunePlan,
    RejectionPlan,
    RevisePlan,
    RewardModelPlan,
    RlPlan,
    SftPlan,
    SycophancyPlan,
    check_context,
    check_lengths,
    check_model,
    check_predictions,
    check_probes,
    check_revisions,
    plan_stage,
    render_rows,
    rows_of_prompts,
    stages_in,
    text_rows,
)
from tutelage.training.trackers import check_trackers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A recipe with its parts resolved. No weight is loaded, nothing is fetched."""

    recipe: Recipe
    stages: tuple[Plan, ...]
    model: Path | None  # None: not on this machine yet
    model_source: str
    others: Mapping[str, ResolvedModel]  # the recipe's `models`

    def fetch_models(self, note: Callable[[str], None]) -> dict[str, Path]:
        """The folders of all models that no stage makes, by name, fetched if need be."""
        found = {} if self.recipe.model is None else {BASE: self.model or fetch(self.recipe.model, note)}
        return found | {name: other.folder or fetch(other.name, note) for name, other in self.others.items()}

    def on_this_machine(self) -> dict[str, Path]:
        """Those of them that need not be fetched."""
        folders = {BASE: self.model, **{name: other.folder for name, other in self.others.items()}}
        return {name: folder for name, folder in folders.items() if folder is not None}

    def lines(self) -> Iterator[str]:
        """The plan in words, with the sizes that follow from it."""
        recipe = self.recipe
        yield f"run       {recipe.name}, seed {recipe.seed}, compute {recipe.compute}"
        beginning = next((p for p in self.stages if isinstance(p, PretrainPlan) and p.from_nothing), None)
        made = "small networks" if beginning is None else "from nothing"
        yield f"model     {recipe.model or made}: {self.model_source}"
        if self.model is not None:
            facts = describe(self.model)
            engine = engine_for(recipe.engine, facts.family)
            size = f"{facts.parameters / 1e6:,.0f} M parameters"
            yield f"          {facts.family}, {size}, context {facts.context}, engine {engine}"
        for name, other in self.others.items():
            yield f"          {name} is {other.name}: {other.source}"
        if beginning is not None:
            yield f"          {_beginning_line(beginning)}"
            yield "          what follows is checked against its tokenizer as soon as that is made, ahead of training"
        for number, plan in enumerate(self.stages, start=1):
            yield f"stage {number}   {plan.stage.name} ({plan.stage.type}): {_stage_line(plan)}"
            read = reads(plan.stage, recipe.before(plan.stage.name), recipe.environments)
            yield f"          reads {', '.join(read) or 'nothing of the others'}; leaves {LEAVES[plan.stage.type]}"
            if (overlap := overlap_before(plan, self.stages, recipe)) is not None:
                yield f"          {overlap.in_words}"


def plan_recipe(recipe: Recipe, must_reach: bool = True) -> RunPlan:
    """Resolves a recipe. Raises ConfigError, DataError or ModelError with the remedy.

    Args:
        must_reach: whether a data set that cannot be reached now is an error, as it is for a run.
    """
    check_trackers(recipe.track)
    resolved = ResolvedModel("", None, "made by the stages") if recipe.model is None else resolve(recipe.model)
    stages = tuple(plan_stage(stage, recipe, must_reach) for stage in recipe.stage)
    check_used(recipe.stage, recipe.environments)  # last: a misspelt name elsewhere may be why nothing uses it
    plan = RunPlan(recipe, stages, resolved.folder, resolved.source, {n: resolve(m) for n, m in recipe.models.items()})
    for name, folder in plan.on_this_machine().items():
        check_with_tokenizer(plan, name, folder)
    check_vocabularies(stages, recipe, plan.on_this_machine())
    return plan


def check_with_tokenizer(plan: RunPlan, root: str, model: Path) -> None:
    """What only the tokenizer and the model's config can tell, before a weight is loaded: does everything fit?

    Args:
        root: "base", one of the recipe's models, or a stage that made a model: the stages that descend from it are
            looked at.
        model: its folder.
    """
    facts = describe(model)
    engine_for(plan.recipe.engine, facts.family)
    tokenizer = load_tokenizer(model)
    for stage_plan in plan.stages:
        if plan.recipe.root(stage_plan.stage) in (root, None):
            check_stage(stage_plan, model, tokenizer, facts.context)


def check_stage(plan: Plan, model: Path, tokenizer: PreTrainedTokenizerBase, context: int) -> None:
    """The same for one stage, with what is known of it by now.

    Args:
        model: a folder with the tokenizer.
        context: the longest sequence of the model.
    """
    match plan:
        case PretrainPlan():
            check_model(plan, tokenizer, context)
        case SftPlan():
            render_rows(plan, tokenizer, context)
            render_rows(plan, tokenizer, context, "test")
        case RewardModelPlan():
            plan.rows("source", tokenizer, context)
            plan.rows("test", tokenizer, context)
        case PreferencePlan():
            for key, judged in (("source", plan.judged), ("test", plan.test)):
                rows_of_prompts(plan.stage, judged, tokenizer, context, key)
        case RevisePlan():
            check_revisions(plan, tokenizer, context)
        case PositionsPlan():
            check_lengths(plan, tokenizer, context)
        case PredictPlan():
            check_predictions(plan, tokenizer, context)
        case PerplexityPlan():
            check_context(plan, tokenizer, context)
        case SycophancyPlan():
            check_probes(plan, tokenizer, context)
        case RlPlan(stage=stage):
            text_rows(plan, tokenizer, context)
            for i, reward in enumerate(plan.rewards):
                if isinstance(reward, InformationGain):
                    where = f"{stage.name}.rewards[{i}]"
                    reward.check_prompts(tokenizer, plan.prompts, stage.longest_sampling, context, where)
            longest = check_prompts(tokenizer, plan.prompts, stage.longest_sampling, context, stage.name)
            _check_microbatch(stage, longest, stage.longest_sampling.max_new_tokens)
        case EvaluatePlan(stage=stage) | LabelPlan(stage=stage) | RejectionPlan(stage=stage) | ComparePlan(stage=stage):
            check_prompts(tokenizer, plan.prompts, stage.sampling, context, stage.name)
        case PrunePlan(stage=stage):
            layers = describe(model).layers  # of the model it comes from: it may have fewer by then
            if layers is not None and stage.layers >= layers:
                raise ModelError(
                    f"{stage.name}: {model} has {layers} layers, so {stage.layers} of them cannot be kept; set "
                    "`layers` lower"
                )
        case ControlPlan() | PlayPlan():
            pass


def _check_microbatch(stage: RlStage, prompt: int, new: int) -> None:
    """Raises DataError where a micro-batch could not hold one sequence of so many tokens."""
    if prompt + new > stage.tokens_per_microbatch:
        raise DataError(
            f"{stage.name}.tokens_per_microbatch: {stage.tokens_per_microbatch} does not hold one sequence of {prompt} "
            f"prompt tokens and {new} new ones; set it to {prompt + new} or more"
        )


def _beginning_line(plan: PretrainPlan) -> str:
    """What a model that is made of nothing will be."""
    stage, shape, tokens = plan.stage, plan.stage.architecture or Architecture(), plan.stage.tokenizer or Tokenizer()
    parameters = count_parameters(llama_config(shape, tokens.size, stage.context)) / 1e6
    return (
        f"llama, {parameters:.1f} M parameters: {shape.layers} layers of width {shape.width}, {shape.heads} heads of "
        f"{shape.width // shape.heads} on {shape.key_heads}, MLP of {shape.ffn_width}; context "
        f"{shape.context or stage.context}; {tokens.size} tokens ({tokens.type})"
    )


def _stage_line(plan: Plan) -> str:
    match plan:
        case PretrainPlan(stage=stage):
            size = sum(len(text.encode()) for text in plan.texts) / 1e6
            long = f"{stage.steps} steps" if stage.steps else f"{stage.epochs} epochs"
            ends = f", then {_count(len(plan.decay_texts), 'others')}" if stage.decay_source else ""
            return (
                f"{long} of {stage.tokens_per_step} tokens ({stage.sequences_per_step} sequences of {stage.context}), "
                f"of {_count(len(plan.texts), 'texts')}{f' ({size:.1f} MB)' if plan.texts else ''}{ends}"
            )
        case EvaluatePlan(stage=stage):
            if plan.game is not None:
                return f"{plan.games} games of {stage.environment} against the {stage.opponent} player"
            how = f"{stage.samples} samples each at temperature {stage.sampling.temperature}"
            asked = _asked(plan, "questions")
            return f"{asked} of {stage.environment}/{stage.split}, {'greedy' if stage.sampling.greedy else how}"
        case PerplexityPlan(stage=stage):
            return f"{_count(len(plan.texts), 'texts')} in pieces of {stage.context} tokens"
        case SycophancyPlan(stage=stage):
            return f"{_asked(plan, 'questions')} of {stage.environment}/{stage.split}, doubted, and with wrong answers"
        case SftPlan(stage=stage):
            found = 0 if stages_in(stage.source) else len(plan.conversations)
            steps = f"{plan.total_steps} steps x " if found or stage.steps else ""
            shown = _made_by(stage.source) or _count(found, "conversations")
            return f"{steps}{stage.sequences_per_step} sequences, {stage.epochs} epochs of {shown}"
        case RewardModelPlan(stage=stage) | PreferencePlan(stage=stage):
            answers = f"{sum(len(one.answers) for one in plan.judged)} " if plan.judged else ""
            steps = f"{plan.total_steps} steps x " if plan.judged or stage.steps else ""
            shown = _made_by(stage.source) or _count(len(plan.judged), f"prompts with {answers}judged answers")
            return f"{plan.loss.type}, {steps}{stage.prompts_per_step} prompts, {stage.epochs} epochs of {shown}"
        case LabelPlan(stage=stage):
            asked = _asked(plan, "prompts")
            steps = f", each step gone on with {stage.steps.continuations} times" if stage.steps else ""
            return f"{stage.answers} answers to each of {asked} of {stage.environment}/{stage.split}{steps}"
        case RejectionPlan(stage=stage):
            asked = f"{_asked(plan, 'prompts')} of {stage.environment}/{stage.split}"
            by = "" if stage.by is None else f" by {stage.by.model}"
            return f"{stage.answers} answers{by} to each of {asked}, chosen: {', '.join(stage.choose)}"
        case RevisePlan(stage=stage):
            asked = _asked(plan, "prompts")
            by = f"{len(stage.principles)} principle{'s' if len(stage.principles) > 1 else ''}"
            rounds = f", {stage.rounds} rounds" if stage.rounds > 1 else ""
            return f"answers to {asked} of {stage.environment}/{stage.split}, criticised by {by} and revised{rounds}"
        case PositionsPlan(stage=stage):
            texts = _count(len(plan.train) + len(plan.test), "texts")
            above = f"{stage.least}" + (f" to {stage.most}" if stage.most else " or more")
            kind = f"of the {stage.top} likeliest tokens" if stage.top else "of all tokens"
            return (
                f"{stage.positions} positions to train on and {stage.test_positions} held-out ones of {texts}, entropy "
                f"{kind} {above} nats"
            )
        case PredictPlan(stage=stage):
            thoughts = 0 if stage.thought is None else stage.thought.samples
            when = "at once" if not thoughts else f"after {thoughts} thought{'s' if thoughts > 1 else ''} each"
            return f"the next token, {when}, at {_asked(plan, 'positions')} of {stage.environment}/{stage.split}"
        case ComparePlan(stage=stage):
            names = ", ".join(contestant.label for contestant in stage.contestants)
            return f"{names}: {_asked(plan, 'prompts')} of {stage.environment}/{stage.split}"
        case ControlPlan(stage=stage):
            each = f"{stage.episodes} episodes from" if stage.episodes else f"{stage.length} steps of"
            what = "beginnings" if stage.episodes else "environments"
            return f"{plan.algorithm.type}, {stage.steps} steps, in each {each} {stage.copies} {what}"
        case PrunePlan(stage=stage):
            return f"{stage.layers} of the policy's layers"
        case PlayPlan(stage=stage):
            return f"{stage.episodes} episodes of {stage.environment} with {stage.policy or 'the policy so far'}"
        case RlPlan():
            return _rl_line(plan)


def _rl_line(plan: RlPlan) -> str:
    stage = plan.stage
    learnt = f"{plan.updates} update{'s' if plan.updates > 1 else ' (on-policy)'} a step"
    if plan.played:
        attempts = f" x {stage.completions_per_prompt} attempts" if stage.completions_per_prompt > 1 else ""
        asked = f"{stage.prompts_per_step} episodes of self-play in {stage.environment}{attempts}; {learnt}"
    else:
        samples = stage.prompts_per_step * stage.completions_per_prompt
        epochs = f"{stage.steps * stage.prompts_per_step / len(plan.prompts):.2g} epochs of " if plan.prompts else ""
        asked = (
            f"{stage.prompts_per_step} prompts x {stage.completions_per_prompt} completions = {stage.steps * samples} "
            f"samples; {samples} a step, {learnt}; {epochs}{_asked(plan, 'prompts')}"
        )
    return f"{plan.algorithm.type}, {stage.steps} steps x {asked}; reference model: {_reference(plan)}"


def _reference(plan: RlPlan) -> str:
    if plan.holds_reference:
        return "yes"
    return "the policy without its adapter" if plan.algorithm.needs_reference else "no"


def _made_by(source: Table) -> str:
    names = ", ".join(f"'{name}'" for name in stages_in(source))
    others = ", and others" if source.get("type") == "mixture" else ""
    return f"what stage{'s' if ',' in names else ''} {names} will leave{others}" if names else ""


def _asked(plan: AskingPlan, what: str) -> str:
    if plan.environment.reads:
        return f"the {what} that stage '{', '.join(plan.environment.reads)}' will leave"
    return _count(len(plan.prompts), what)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number else f"{what} that cannot be reached now (the run will fetch them)"
