"""Playing out: a step's self-play, ply by ply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tutelage.config import Sampling
from tutelage.engines import Engine
from tutelage.environments import Play
from tutelage.rollouts.roll_out import roll_out
from tutelage.seeds import derive_seed
from tutelage.types import Group

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def play_out(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    play: Play,
    sampling: Sampling,
    seed: int,
    watch: Callable[[int, int], None] | None = None,
) -> list[Group]:
    """Plays to the end. Every ply is one call of the engine, for all episodes that still go on.

    The noise of an answer depends on `seed`, the ply, the prompt and its place among the answers to that.

    Args:
        watch: told the answers so far and those asked for so far; how many there will be, nobody knows.
    """
    groups: list[Group] = []
    fresh: Sequence[Group] | None = None
    ply = done = 0
    while True:
        try:
            turns = play.send(fresh)
        except StopIteration:
            return groups
        answers = [turn.answers for turn in turns]
        asked = done + sum(answers)
        fresh = roll_out(
            engine,
            tokenizer,
            [turn.prompt for turn in turns],
            answers,
            sampling,
            derive_seed(seed, "ply", ply),
            watch=_further(watch, done, asked),
        )
        for group, turn in zip(fresh, turns, strict=True):
            group.role = turn.role
        groups += fresh
        ply, done = ply + 1, asked


def _further(watch: Callable[[int, int], None] | None, before: int, asked: int) -> Callable[[int, int], None] | None:
    """Tells of a ply's answers beside those of the plies before it."""
    return None if watch is None else lambda done, _: watch(before + done, asked)
