"""Answers step by step: as rows to learn from, and as a process reward model scores them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Literal

import torch

from tutelage.config import RewardModelStage
from tutelage.data.answers import render_answer
from tutelage.data.packing import Row, pack
from tutelage.data.preferences import Judged
from tutelage.data.steps import step_ends
from tutelage.errors import DataError
from tutelage.models import RewardModel
from tutelage.stages.judged import score_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Reduction = Literal["min", "product", "mean", "last"]


def rows_of_steps(
    stage: RewardModelStage, judged: Sequence[Judged], tokenizer: PreTrainedTokenizerBase, context: int, key: str
) -> list[list[Row]]:
    """One row for each answer, whose actions are its steps' ends; the field `judged` has their labels.

    Args:
        context: the longest sequence of the model.
        key: the stage's key that named the source, for messages.

    Raises:
        DataError: the tokens have other steps than the data; an answer, or what is left of it, does not fit.
    """
    room, where = min(context, stage.tokens_per_microbatch), f"{stage.name}.{key}"
    return [[_row(stage, one, number, tokenizer, room, where)] for number, one in enumerate(judged)]


def _row(
    stage: RewardModelStage, judged: Judged, number: int, tokenizer: PreTrainedTokenizerBase, room: int, where: str
) -> Row:
    asked, written = render_answer(tokenizer, judged.prompt, stage.separator.join(judged.answers))
    ends = step_ends(tokenizer, written, stage.separator)
    if len(ends) != len(judged.scores):
        raise DataError(
            f"{where}: the answer of {judged.id!r} has {len(judged.scores)} labels, and its tokens have {len(ends)} "
            f"steps that end with separator = {stage.separator!r}; choose one that no step has in it, and that neither "
            "the chat template nor the tokenizer puts together with other text"
        )
    kept = [end for end in ends if stage.max_answer_tokens is None or end < stage.max_answer_tokens]
    if not kept:
        raise DataError(
            f"{where}: the first step of {judged.id!r} has {ends[0] + 1} tokens, more than max_answer_tokens = "
            f"{stage.max_answer_tokens}; raise it, or leave the answer out"
        )
    written = written[: kept[-1] + 1]  # what is cut off goes by whole steps
    if len(asked) + len(written) > room:
        raise DataError(
            f"{where}: the answer of {judged.id!r} has {len(asked)} + {len(written)} tokens with its prompt, and there "
            f"is room for {room}: set max_answer_tokens to {max(1, room - len(asked))} or less, or shorten the prompt"
        )
    fields = {"judged": judged.scores[: len(kept)], "group": float(number)}
    return at_ends(Row(tuple(asked), tuple(written), number, None, fields, name=judged.id), kept)


def at_ends(row: Row, ends: Sequence[int]) -> Row:
    """The row with the last tokens of its steps as its only actions."""
    actions = set(ends)
    return replace(row, acted=tuple(place in actions for place in range(len(row.tokens))))


@torch.no_grad()
def score_steps(model: RewardModel, rows: Sequence[Row], tokens_per_microbatch: int) -> list[list[float]]:
    """The probability that each step of each row is right. The rows' actions are the ends of their steps."""
    found: list[list[float]] = [[] for _ in rows]
    for batch in pack(rows, tokens_per_microbatch):
        probabilities_A = model.scores(batch).sigmoid().cpu()
        lengths = torch.bincount(batch.sequence_A, minlength=batch.sequences).tolist()
        for index, own in zip(batch.rows, probabilities_A.split(lengths), strict=True):
            found[index] = own.tolist()
    return found


def score_answers(
    model: RewardModel, rows: Sequence[Row], tokens_per_microbatch: int, how: Reduction = "min"
) -> Sequence[float | None]:
    """What the reward model makes of each answer: its score, or its steps' probabilities as one number.

    None where a process reward model finds no step.
    """
    if model.separator is None:
        return score_rows(model, rows, tokens_per_microbatch)
    steps = score_steps(model, [with_steps(row, model) for row in rows], tokens_per_microbatch)
    return [combined(probabilities, how) if probabilities else None for probabilities in steps]


def with_steps(row: Row, model: RewardModel) -> Row:
    """The row with the ends of its steps, as this process reward model cuts them, as its only actions."""
    assert model.separator is not None, "a model of whole answers knows no steps"
    return at_ends(row, step_ends(model.tokenizer, row.tokens, model.separator))


def combined(probabilities: Sequence[float], how: Reduction) -> float:
    """The steps of an answer as one number.

    The least of them (Math-Shepherd, 2312.08935); their product, the probability that all are right (2305.20050);
    their mean; or the last one, which is near what a model of whole answers would say.
    """
    match how:
        case "min":
            return min(probabilities)
        case "product":
            return math.prod(probabilities)
        case "mean":
            return fmean(probabilities)
        case "last":
            return probabilities[-1]
