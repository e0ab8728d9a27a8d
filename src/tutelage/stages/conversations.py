"""Conversations of a source, and each as a row to learn from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tutelage.config import Recipe, Table, validate
from tutelage.data import Conversation, build_conversation_source
from tutelage.data.chat import LossOn, render_conversation
from tutelage.data.packing import Row
from tutelage.data.sources import MixtureSource
from tutelage.errors import DataError
from tutelage.stages.context import unless_unreachable
from tutelage.stages.labelled import labels_whole_answers, left_conversations

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_conversations(table: object, where: str, must_reach: bool) -> Sequence[Conversation]:
    """The conversations of a source. None where it cannot be reached now, unless it must be."""
    source = build_conversation_source(table, where)
    return unless_unreachable(source.load_conversations, must_reach)


def load_texts(table: object, where: str, must_reach: bool) -> Sequence[str]:
    """The texts of a source, a plain prompt together with its completion. None where it cannot be reached now.

    Raises:
        DataError: a row is a conversation of turns.
    """
    texts: list[str] = []
    for conversation in load_conversations(table, where, must_reach):
        if conversation.prompt is None or conversation.completion is None:
            raise DataError(
                f"{where}: {conversation.id!r} has turns, and pre-training reads texts; name the field that is one as "
                "`text`, set plain = true for questions and answers, or take an sft stage with loss_on = 'all'"
            )
        texts.append(conversation.prompt + conversation.completion)
    return texts


def planned_conversations(
    table: Table, recipe: Recipe, stage: str, where: str, must_reach: bool
) -> Sequence[Conversation]:
    """The conversations of a source that are known before the run: not those that a stage before this one will leave.

    Raises:
        ConfigError: no stage before this one leaves what is named.
    """
    if labels_whole_answers(table, recipe, stage, where, ("judged answers", "conversations")):
        return ()
    if not stages_in(table):
        return load_conversations(table, where, must_reach)
    return [
        conversation
        for place, source in _parts(table, where)
        for conversation in planned_conversations(source, recipe, stage, place, must_reach)
    ]


def made_conversations(table: Table, made: Mapping[str, Path], where: str) -> Sequence[Conversation]:
    """All conversations of a source, now that the stages which it names have left theirs."""
    if table["type"] == "stage":
        return left_conversations(made[table["stage"]], float(table.get("least", -math.inf)))
    if not stages_in(table):
        return load_conversations(table, where, must_reach=True)
    mixture = validate(MixtureSource, table, where)
    return mixture.mixed([made_conversations(source, made, place) for place, source in _parts(table, where)])


def stages_in(table: Table) -> list[str]:
    """The stages whose data a source waits for: the one that it names, or those that the parts of a mixture name."""
    if table.get("type") == "stage":
        return [str(table.get("stage"))]
    parts = table.get("parts") if table.get("type") == "mixture" else None
    sources = [part.get("source") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return [name for source in sources if isinstance(source, dict) for name in stages_in(source)]


def _parts(table: Table, where: str) -> list[tuple[str, Table]]:
    """The sources of a mixture, each with its place in the recipe."""
    parts = validate(MixtureSource, table, where).parts
    return [(f"{where}.parts[{number}].source", part.source) for number, part in enumerate(parts)]


def conversation_rows(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Conversation],
    loss_on: LossOn,
    context: int,
    budget: int,
    where: str,
) -> list[Row]:
    """Every conversation as a row, with a credit of 1 for what is learned.

    Args:
        context: the longest sequence of the model.
        budget: the stage's `tokens_per_microbatch`.

    Raises:
        DataError: one does not fit, or has nothing to learn from.
    """
    rows: list[Row] = []
    for number, conversation in enumerate(conversations):
        rendered = render_conversation(tokenizer, conversation, loss_on)
        length = len(rendered.tokens)
        if length > min(context, budget):
            remedy = f"set tokens_per_microbatch to {length} or more" if length <= context else "shorten it"
            raise DataError(
                f"{where}: conversation {conversation.id!r} has {length} tokens; the model's context is {context} and "
                f"tokens_per_microbatch {budget}: {remedy}"
            )
        shown, mask = {"advantages": 1.0}, tuple(rendered.mask)
        row = Row((), tuple(rendered.tokens), number, mask, shown, name=conversation.id)
        if not row.actions:
            raise DataError(
                f"{where}: conversation {conversation.id!r} has nothing to learn from under loss_on = '{loss_on}'"
            )
        rows.append(row)
    return rows
