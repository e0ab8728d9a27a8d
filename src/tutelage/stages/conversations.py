"""Conversations of a source, and each as a row to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tutelage.data import Conversation, build_conversation_source
from tutelage.data.chat import LossOn, render_conversation
from tutelage.data.packing import Row
from tutelage.errors import DataError
from tutelage.stages.context import unless_unreachable

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
        row = Row((), tuple(rendered.tokens), number, tuple(rendered.mask), {"advantages": 1.0})
        if not row.actions:
            raise DataError(
                f"{where}: conversation {conversation.id!r} has nothing to learn from under loss_on = '{loss_on}'"
            )
        rows.append(row)
    return rows
