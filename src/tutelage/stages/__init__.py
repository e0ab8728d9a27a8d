"""What a run is made of. `plan_stage` resolves a stage before any weight is loaded, `run_stage` runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tutelage.config import (
    CompareStage,
    ControlStage,
    EvaluateStage,
    LabelStage,
    PerplexityStage,
    PlayStage,
    PositionsStage,
    PredictStage,
    PreferenceStage,
    PretrainStage,
    PruneStage,
    Recipe,
    RejectionStage,
    ReviseStage,
    RewardModelStage,
    RlStage,
    SftStage,
    Stage,
    SycophancyStage,
)
from tutelage.stages.compare import ComparePlan, plan_compare, run_compare
from tutelage.stages.context import Result, StageRun, write_json
from tutelage.stages.control import ControlPlan, plan_control, run_control
from tutelage.stages.conversations import made_conversations, stages_in
from tutelage.stages.evaluate import EvaluatePlan, plan_evaluate, run_evaluate
from tutelage.stages.information_gain import InformationGain
from tutelage.stages.judged import rows_of_prompts
from tutelage.stages.label import LabelPlan, plan_label, run_label
from tutelage.stages.labelled import labelled
from tutelage.stages.local_judge import LocalJudge
from tutelage.stages.named_models import is_model_folder
from tutelage.stages.perplexity import PerplexityPlan, check_context, plan_perplexity, run_perplexity
from tutelage.stages.play import PlayPlan, plan_play, run_play
from tutelage.stages.positions import PositionsPlan, check_lengths, plan_positions, run_positions
from tutelage.stages.predict import PredictPlan, check_predictions, plan_predict, run_predict
from tutelage.stages.preference import PreferencePlan, plan_preference, run_preference
from tutelage.stages.pretrain import (
    PretrainPlan,
    begin_from_nothing,
    check_model,
    plan_pretrain,
    run_pretrain,
    tokenised,
)
from tutelage.stages.prune import PrunePlan, run_prune
from tutelage.stages.rejection import RejectionPlan, plan_rejection, run_rejection
from tutelage.stages.replay import Replay, Token, replay_step
from tutelage.stages.revise import RevisePlan, check_revisions, plan_revise, run_revise
from tutelage.stages.reward_model import RewardModelPlan, plan_reward_model, run_reward_model
from tutelage.stages.rl import run_rl
from tutelage.stages.rl_plan import RlPlan, plan_rl, text_rows, with_texts
from tutelage.stages.sft import SftPlan, plan_sft, render_rows, run_sft
from tutelage.stages.sycophancy import SycophancyPlan, check_probes, plan_sycophancy, run_sycophancy

Plan = (
    PretrainPlan
    | PrunePlan
    | EvaluatePlan
    | PerplexityPlan
    | SycophancyPlan
    | SftPlan
    | RewardModelPlan
    | PreferencePlan
    | RlPlan
    | LabelPlan
    | RevisePlan
    | RejectionPlan
    | PositionsPlan
    | PredictPlan
    | ComparePlan
    | ControlPlan
    | PlayPlan
)

AskingPlan = EvaluatePlan | SycophancyPlan | LabelPlan | RevisePlan | RejectionPlan | ComparePlan | PredictPlan | RlPlan
"""What has prompts to ask."""


def plan_stage(stage: Stage, recipe: Recipe, must_reach: bool = True) -> Plan:
    """Resolves and checks a stage. Raises ConfigError or DataError with the remedy.

    Args:
        must_reach: whether a data set that cannot be reached now is an error; else its stage is planned without it.
    """
    match stage:
        case PretrainStage():
            return plan_pretrain(stage, recipe, must_reach)
        case EvaluateStage():
            return plan_evaluate(stage, recipe, must_reach)
        case PerplexityStage():
            return plan_perplexity(stage, must_reach)
        case SycophancyStage():
            return plan_sycophancy(stage, recipe, must_reach)
        case SftStage():
            return plan_sft(stage, recipe, must_reach)
        case RewardModelStage():
            return plan_reward_model(stage, recipe, must_reach)
        case PreferenceStage():
            return plan_preference(stage, recipe, must_reach)
        case RlStage():
            return plan_rl(stage, recipe, must_reach)
        case LabelStage():
            return plan_label(stage, recipe, must_reach)
        case ReviseStage():
            return plan_revise(stage, recipe, must_reach)
        case RejectionStage():
            return plan_rejection(stage, recipe, must_reach)
        case PositionsStage():
            return plan_positions(stage, recipe, must_reach)
        case PredictStage():
            return plan_predict(stage, recipe, must_reach)
        case CompareStage():
            return plan_compare(stage, recipe, must_reach)
        case ControlStage():
            return plan_control(stage, recipe)
        case PruneStage():
            return PrunePlan(stage)
        case PlayStage():
            return plan_play(stage, recipe)


def run_stage(plan: Plan, run: StageRun) -> Result:
    """Runs a planned stage and returns its result."""
    match plan:
        case PretrainPlan():
            return run_pretrain(plan, run)
        case EvaluatePlan():
            return run_evaluate(plan, run)
        case PerplexityPlan():
            return run_perplexity(plan, run)
        case SycophancyPlan():
            return run_sycophancy(plan, run)
        case SftPlan():
            return run_sft(plan, run)
        case RewardModelPlan():
            return run_reward_model(plan, run)
        case PreferencePlan():
            return run_preference(plan, run)
        case RlPlan():
            return run_rl(plan, run)
        case LabelPlan():
            return run_label(plan, run)
        case RevisePlan():
            return run_revise(plan, run)
        case RejectionPlan():
            return run_rejection(plan, run)
        case PositionsPlan():
            return run_positions(plan, run)
        case PredictPlan():
            return run_predict(plan, run)
        case ComparePlan():
            return run_compare(plan, run)
        case ControlPlan():
            return run_control(plan, run)
        case PrunePlan():
            return run_prune(plan, run)
        case PlayPlan():
            return run_play(plan, run)


def completed(
    plan: Plan, made: Mapping[str, Path], model: Path | None, folder: Path, note: Callable[[str], None]
) -> Plan:
    """The plan with what is known only now that the stage is reached: judged answers of one before it, its tokens.

    Args:
        model: the folder of the model that it begins with.
        folder: the stage's own.
    """
    match plan:
        case PretrainPlan() if model is not None:
            return tokenised(plan, model, folder, note)
        case SftPlan(stage=stage) if stages_in(stage.source):
            return replace(plan, conversations=made_conversations(stage.source, made, f"{stage.name}.source"))
        case RewardModelPlan(stage=stage) | PreferencePlan(stage=stage) if stage.source.get("type") == "stage":
            return replace(plan, judged=labelled(made[stage.source["stage"]]))
        case RlPlan():
            return _with_prompts(with_texts(plan, made), made)
        case (
            EvaluatePlan()
            | SycophancyPlan()
            | LabelPlan()
            | RevisePlan()
            | RejectionPlan()
            | ComparePlan()
            | PredictPlan()
        ):
            return _with_prompts(plan, made)
        case _:
            return plan


def _with_prompts(plan: AskingPlan, made: Mapping[str, Path]) -> AskingPlan:
    """The plan with the prompts that a stage before it has made, where its environment asks those."""
    if not plan.environment.reads:
        return plan
    environment = plan.environment.completed(made)
    prompts = environment.prompts(plan.stage.split)[: getattr(plan.stage, "questions", None)]
    return replace(plan, environment=environment, prompts=prompts)


__all__ = [
    "AskingPlan",
    "ComparePlan",
    "ControlPlan",
    "EvaluatePlan",
    "InformationGain",
    "LabelPlan",
    "LocalJudge",
    "PerplexityPlan",
    "Plan",
    "PlayPlan",
    "PositionsPlan",
    "PredictPlan",
    "PreferencePlan",
    "PretrainPlan",
    "PrunePlan",
    "RejectionPlan",
    "Replay",
    "Result",
    "RevisePlan",
    "RewardModelPlan",
    "RlPlan",
    "SftPlan",
    "StageRun",
    "SycophancyPlan",
    "Token",
    "begin_from_nothing",
    "check_context",
    "check_lengths",
    "check_model",
    "check_predictions",
    "check_probes",
    "check_revisions",
    "completed",
    "is_model_folder",
    "plan_stage",
    "render_rows",
    "replay_step",
    "rows_of_prompts",
    "run_stage",
    "stages_in",
    "text_rows",
    "write_json",
]
