"""The `perplexity` stage: what held-out texts cost a model, with intervals over texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tutelage.config import PerplexityStage
from tutelage.data.chat import render_text
from tutelage.errors import DataError
from tutelage.stages.context import Result, StageRun
from tutelage.stages.conversations import load_texts
from tutelage.stages.held_out import HeldOut

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class PerplexityPlan:
    """The stage with everything resolved that can be known before a weight is loaded."""

    stage: PerplexityStage
    texts: Sequence[str]


def plan_perplexity(stage: PerplexityStage, must_reach: bool) -> PerplexityPlan:
    """Resolves and checks the stage. Raises ConfigError or DataError with the remedy."""
    return PerplexityPlan(stage, load_texts(stage.source, f"{stage.name}.source", must_reach))


def check_context(plan: PerplexityPlan, tokenizer: PreTrainedTokenizerBase, context: int) -> None:
    """Raises DataError where the model cannot take such pieces, ModelError where its texts cannot end."""
    render_text(tokenizer, "text")
    if plan.stage.context > context:
        raise DataError(
            f"{plan.stage.name}.context: {plan.stage.context} is above the model's own, {context}; lower it"
        )


def run_perplexity(plan: PerplexityPlan, run: StageRun) -> Result:
    """Scores every text. Bits for each byte can be compared between models, perplexity only under one tokenizer."""
    policy = run.load_policy()
    return {
        "type": "perplexity",
        "model": run.model.name,
        "texts": len(plan.texts),
        **HeldOut(plan.texts, policy.tokenizer, plan.stage).measured(policy),
    }
