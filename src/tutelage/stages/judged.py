"""Judged answers as rows: the prompt once, each answer after it, with what it was judged to be worth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from tutelage.config import PreferenceStage, RewardModelStage
from tutelage.data import build_judged_source
from tutelage.data.answers import render_answer
from tutelage.data.packing import Row, pack
from tutelage.data.preferences import Judged
from tutelage.errors import DataError
from tutelage.evaluation import agreement
from tutelage.models import RewardModel
from tutelage.stages.context import unless_unreachable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def judged_rows(
    tokenizer: PreTrainedTokenizerBase,
    judged: Judged,
    group: int,
    room: int,
    where: str,
    max_answer_tokens: int | None = None,
) -> list[Row]:
    """One row for each answer, all of whose tokens are actions; the field `judged` is its score, `group` its prompt.

    Args:
        room: tokens that the model, or a micro-batch, has for one sequence.
        max_answer_tokens: longer answers are cut, and then have no token that ends them.

    Raises:
        DataError: an answer does not fit; the prompt leaves no room for one.
    """
    rows: list[Row] = []
    for number, (answer, score) in enumerate(zip(judged.answers, judged.scores, strict=True)):
        asked, written = render_answer(tokenizer, judged.prompt, answer)
        written = written[:max_answer_tokens]
        if len(asked) + len(written) > room:
            raise DataError(
                f"{where}: answer {number + 1} to prompt {judged.prompt.id!r} has {len(asked)} + {len(written)} tokens "
                f"with its prompt, and there is room for {room}: set max_answer_tokens to "
                f"{max(1, room - len(asked))} or less, or shorten the prompt"
            )
        fields, name = {"judged": score, "group": float(group)}, f"{judged.prompt.id}/{number}"
        rows.append(Row(tuple(asked), tuple(written), group, None, fields, name=name))
    return rows


def at_the_end(row: Row) -> Row:
    """The row with its last token as its only action: where a reward model scores it."""
    last = len(row.tokens) - 1
    return replace(row, acted=tuple(i == last for i in range(last + 1)))


def rows_of_prompts(
    stage: RewardModelStage | PreferenceStage,
    judged: Sequence[Judged],
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    key: str,
) -> list[list[Row]]:
    """The rows of each prompt's answers. Raises DataError for what does not fit.

    Args:
        context: the longest sequence of the model.
        key: the stage's key that named the source, for messages.
    """
    room, where = min(context, stage.tokens_per_microbatch), f"{stage.name}.{key}"
    return [
        judged_rows(tokenizer, one, number, room, where, stage.max_answer_tokens) for number, one in enumerate(judged)
    ]


def are_steps(judged: Sequence[Judged], where: str) -> bool:
    """Are these the steps of single answers? Raises DataError where some are, and others whole answers."""
    kinds = {one.stepwise: one.id for one in judged}
    if len(kinds) > 1:
        raise DataError(
            f"{where}: {kinds[True]!r} has the steps of one answer, and {kinds[False]!r} whole answers; a model learns "
            "from the one or the other: make two sources of them, for two stages"
        )
    return True in kinds


def load_judged(table: object, where: str, must_reach: bool) -> Sequence[Judged]:
    """The judged answers of a source. Empty where it cannot be reached now, unless it must be."""
    source = build_judged_source(table, where)
    return unless_unreachable(source.load_judged, must_reach)


def refuse_ties(judged: Sequence[Judged], where: str, remedy: str) -> None:
    """Raises DataError for a prompt of whose answers no two were judged apart."""
    for one in judged:
        if len(set(one.scores)) < 2:
            raise DataError(
                f"{where}: prompt {one.prompt.id!r} has no two answers that were judged apart, so there is nothing to "
                f"compare; leave it out, or take {remedy}"
            )


def refuse_outside(judged: Sequence[Judged], where: str, remedy: str) -> None:
    """Raises DataError for a score that is no share: below 0 or above 1."""
    for one in judged:
        if not all(0.0 <= score <= 1.0 for score in one.scores):
            raise DataError(
                f"{where}: prompt {one.prompt.id!r} has the scores {list(one.scores)}, which must lie between 0 (bad) "
                f"and 1 (good); take {remedy} for others"
            )


def agreement_of(scores: Iterable[float], rows: Sequence[Sequence[Row]], judged: Sequence[Judged]) -> dict[str, Any]:
    """How far scores, one for each row, agree with what was judged, prompt by prompt."""
    given = iter(scores)
    return agreement.report(
        [
            agreement.Compared([next(given) for _ in own], one.scores, [len(row.tokens) for row in own])
            for own, one in zip(rows, judged, strict=True)
        ]
    )


@torch.no_grad()
def score_rows(model: RewardModel, rows: Sequence[Row], tokens_per_microbatch: int) -> list[float]:
    """What the reward model makes of each row, at its last token."""
    scores = [0.0] * len(rows)
    for batch in pack([at_the_end(row) for row in rows], tokens_per_microbatch):
        for index, score in zip(batch.rows, model.scores(batch).tolist(), strict=True):
            scores[index] = score
    return scores
