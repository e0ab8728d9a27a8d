"""Questions that are both learned from and tested on: what such a test finds, memory may have brought."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tutelage.data import Conversation
from tutelage.environments.audit import question_key, words_of
from tutelage.stages import (
    ComparePlan,
    EvaluatePlan,
    LabelPlan,
    Plan,
    PreferencePlan,
    RejectionPlan,
    RevisePlan,
    RewardModelPlan,
    RlPlan,
    SftPlan,
)
from tutelage.types import Prompt


def overlaps(plans: Sequence[Plan]) -> Iterator[str]:
    """A line for each stage that learns from questions which stages test on, but for case and white space.

    Looked at are questions: of data that lie here, and of environments. A text (pre-training, `text` rows) is not
    searched for them, and what stages make is not there yet. Testing on the training split is meant, and not told.
    """
    tested: dict[str, list[str]] = {}  # questions by their words: the stages that test on them
    called: dict[str, str] = {}
    for plan in plans:
        for key, name in _tested(plan):
            stages = tested.setdefault(key, [])
            if plan.stage.name not in stages:
                stages.append(plan.stage.name)
            called.setdefault(key, name)
    for plan in plans:
        shared = dict.fromkeys(key for key, _ in _learned(plan) if key in tested)
        if shared:
            stages = ", ".join(dict.fromkeys(f"'{stage}'" for key in shared for stage in tested[key]))
            yield (
                f"'{plan.stage.name}' learns from {len(shared)} of the {len(tested)} questions that {stages} "
                f"test{'' if ',' in stages else 's'} on, such as {called[next(iter(shared))]}; leave them out of one "
                "of both, or read the scores as those of seen questions"
            )


def _learned(plan: Plan) -> Iterator[tuple[str, str]]:
    """What is asked in learning: its words, and what it is called."""
    match plan:
        case SftPlan():
            yield from map(_of_conversation, plan.conversations)
        case RewardModelPlan() | PreferencePlan():
            yield from (_of_prompt(judged.prompt) for judged in plan.judged)
        case RlPlan():
            yield from map(_of_conversation, plan.texts)
            if not plan.played:
                yield from map(_of_prompt, plan.prompts)
        case LabelPlan() | RejectionPlan() | RevisePlan():
            yield from map(_of_prompt, plan.prompts)
        case _:
            return


def _tested(plan: Plan) -> Iterator[tuple[str, str]]:
    match plan:
        case EvaluatePlan() | ComparePlan() if plan.stage.split == "test":
            yield from map(_of_prompt, plan.prompts)
        case SftPlan():
            yield from map(_of_conversation, plan.test)
        case RewardModelPlan() | PreferencePlan():
            yield from (_of_prompt(judged.prompt) for judged in plan.test)
        case _:
            return


def _of_prompt(prompt: Prompt) -> tuple[str, str]:
    return question_key(prompt), prompt.id


def _of_conversation(conversation: Conversation) -> tuple[str, str]:
    """What is asked first. A text of its own asks nothing, and is its own words."""
    if conversation.prompt is not None:
        return words_of(conversation.prompt or conversation.completion or ""), conversation.id
    said: list[str] = []
    for message in conversation.messages:
        if message.role == "assistant" and said:
            break
        if message.role != "system":
            said.append(message.content)
    return words_of(" ".join(said)), conversation.id
