"""What of an evaluation's questions stands in what the stages before it learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tutelage.config import Recipe
from tutelage.data.contamination import Contamination, contamination
from tutelage.environments.audit import asked
from tutelage.stages import (
    EvaluatePlan,
    LabelPlan,
    Plan,
    PreferencePlan,
    PretrainPlan,
    RejectionPlan,
    RevisePlan,
    RewardModelPlan,
    RlPlan,
    SftPlan,
)


def overlap_before(plan: Plan, plans: Sequence[Plan], recipe: Recipe) -> Contamination | None:
    """Of an evaluation after stages that learn: how many of its questions they have. None for anything else.

    What a stage makes only when it runs, answers and positions, is known by the prompts that it is made of.
    """
    if not isinstance(plan, EvaluatePlan) or plan.game is not None or not plan.prompts:
        return None
    before = {stage.name for stage in recipe.before(plan.stage.name)}
    texts = [text for other in plans if other.stage.name in before for text in _learned(other)]
    return contamination([asked(prompt) for prompt in plan.prompts], texts) if texts else None


def _learned(plan: Plan) -> Iterator[str]:
    """The texts of a plan: each prompt by itself, and each conversation as a whole and by its first question."""
    match plan:
        case PretrainPlan():
            yield from plan.texts
            yield from plan.decay_texts
        case SftPlan():
            for one in plan.conversations:
                yield (
                    "\n".join(message.content for message in one.messages)
                    or f"{one.prompt or ''}{one.completion or ''}"
                )
                yield from (message.content for message in one.messages if message.role == "user")
        case RewardModelPlan() | PreferencePlan():
            yield from (asked(one.prompt) for one in plan.judged)
        case RlPlan() | LabelPlan() | RevisePlan() | RejectionPlan():
            yield from (asked(prompt) for prompt in plan.prompts)
        case _:
            return
