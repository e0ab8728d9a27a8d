"""The `positions` stage: where in texts is the policy unsure of the next token? What it finds is asked later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from tutelage.config import PositionsStage, Recipe
from tutelage.data.packing import Row, pack
from tutelage.data.positions import Position, pieces, position_at, write_positions
from tutelage.errors import DataError
from tutelage.models import Policy
from tutelage.seeds import derive_seed
from tutelage.stages.context import Result, StageRun
from tutelage.stages.conversations import load_texts
from tutelage.types import Split

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_AT_ONCE: Final = 16  # micro-batches that are packed together
_TEST_SHARE: Final = 0.1  # where the recipe says none


@dataclass(frozen=True, slots=True)
class PositionsPlan:
    """The stage with everything resolved that can be known before a weight is loaded."""

    stage: PositionsStage
    train: Sequence[str]
    test: Sequence[str]

    @property
    def splits(self) -> tuple[tuple[Split, Sequence[str], int], ...]:
        """Of each split its texts, and how many positions of them are wanted."""
        return ("train", self.train, self.stage.positions), ("test", self.test, self.stage.test_positions)


def plan_positions(stage: PositionsStage, recipe: Recipe, must_reach: bool) -> PositionsPlan:
    """Resolves and checks the stage. A text that stands in the source twice counts once.

    Raises ConfigError or DataError with the remedy.
    """
    where = f"{stage.name}.source"
    texts = list(dict.fromkeys(load_texts(stage.source, where, must_reach)))
    if stage.test is not None:
        test = dict.fromkeys(load_texts(stage.test, f"{stage.name}.test", must_reach))
        return PositionsPlan(stage, [text for text in texts if text not in test], list(test))
    count = max(1, round((stage.test_share or _TEST_SHARE) * len(texts)))
    if texts and count == len(texts):
        raise DataError(f"{where}: {len(texts)} different texts cannot be split; give a `test` source, or more texts")
    seed = derive_seed(recipe.seed, stage.name, "test")
    held_out = set(Random(seed).sample(texts, count if texts else 0))
    return PositionsPlan(stage, [t for t in texts if t not in held_out], [t for t in texts if t in held_out])


def check_lengths(plan: PositionsPlan, tokenizer: PreTrainedTokenizerBase, context: int) -> None:
    """Raises DataError where the texts could not have as many positions as are wanted, whatever their entropy.

    Args:
        context: the longest sequence of the model.
    """
    stage = plan.stage
    if stage.context > context:
        raise DataError(f"{stage.name}.context: {stage.context} is above the model's own, {context}; lower it")
    for split, texts, wanted in plan.splits:
        if not texts:
            continue  # they cannot be reached now
        found = _Pieces(stage, tokenizer, texts)
        fitting = sum(min(fits, stage.per_text or fits) for fits in found.positions_of_texts())
        if fitting < wanted:
            raise found.too_few(split, wanted, fitting)


def run_positions(plan: PositionsPlan, run: StageRun) -> Result:
    """Measures the entropy of every next token, chooses positions, and writes them whole or not at all."""
    policy = run.load_policy()
    chosen: list[Position] = []
    skipped = 0
    for split, texts, wanted in plan.splits:
        some, refused = _choose(plan.stage, policy, run, split, texts, wanted)
        chosen, skipped = chosen + some, skipped + refused
    path: Path = run.folder / "prompts.jsonl"
    write_positions(path, chosen)
    return {
        "type": "positions",
        "texts": len(plan.train) + len(plan.test),
        "train": plan.stage.positions,
        "test": plan.stage.test_positions,
        "entropy": float(np.mean([one.entropy for one in chosen])),
        "skipped": skipped,
        "written": str(path.relative_to(run.folder.parent.parent)),
    }


class _Pieces:
    """The texts of a split as tokens, in pieces."""

    def __init__(self, stage: PositionsStage, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> None:
        self.stage, self.texts = stage, len(texts)
        cut = [(number, piece) for number, text in enumerate(texts) for piece in pieces(tokenizer, text, stage.context)]
        self.text_of = [number for number, _ in cut]
        self.tokens = [np.array(piece, dtype=np.int32) for _, piece in cut]

    def places(self, piece: int) -> range:
        """The positions of a piece that have enough tokens before and after them."""
        return range(self.stage.min_context, len(self.tokens[piece]) - self.stage.horizon + 1)

    def positions_of_texts(self) -> list[int]:
        """How many such positions each text has."""
        counts = [0] * self.texts
        for piece, text in enumerate(self.text_of):
            counts[text] += len(self.places(piece))
        return counts

    def too_few(self, split: Split, wanted: int, found: int, seen: str = "", remedy: str = "") -> DataError:
        """What was looked for, and what was seen instead."""
        stage, key = self.stage, "positions" if split == "train" else "test_positions"
        tokens, places = sum(map(len, self.tokens)), sum(self.positions_of_texts())
        each = f", of which per_text = {stage.per_text} in each count" if stage.per_text else ""
        return DataError(
            f"{stage.name}: {key} = {wanted}, and only {found} can be had: {self.texts} texts of {tokens} tokens have "
            f"{places} places with {stage.min_context} tokens before and {stage.horizon} after them{each}{seen}. Lower "
            f"{key}, min_context, horizon{remedy}, or give more texts"
        )


def _choose(
    stage: PositionsStage, policy: Policy, run: StageRun, split: Split, texts: Sequence[str], wanted: int
) -> tuple[list[Position], int]:
    """The positions of a split, in the order in which they were drawn; and how many were drawn and could not be asked.

    Raises DataError where there are too few.
    """
    found = _Pieces(stage, policy.tokenizer, texts)
    entropies = _entropies(stage, policy, run, found)
    fitting = [
        (piece, place)
        for piece, entropy_T in enumerate(entropies)
        for place in found.places(piece)
        if stage.least <= entropy_T[place - 1] <= (stage.most or np.inf)
    ]
    taken, chosen, skipped = [0] * len(texts), list[Position](), 0
    for index in np.random.default_rng(derive_seed(run.seed, split)).permutation(len(fitting)):
        piece, place = fitting[index]
        text, tokens = found.text_of[piece], found.tokens[piece].tolist()
        if stage.per_text is not None and taken[text] == stage.per_text:
            continue
        asked = position_at(policy.tokenizer, tokens, place, stage.horizon)
        if asked is None:
            skipped += 1
            continue
        taken[text] += 1
        name, entropy = f"{split}/{text}.{piece}.{place}", round(float(entropies[piece][place - 1]), 4)
        before, after = tuple(tokens[:place]), tuple(tokens[place : place + stage.horizon])
        chosen.append(Position(name, split, *asked, tokens=after, context_tokens=before, entropy=entropy))
        if len(chosen) == wanted:
            return chosen, skipped
    above = f"of {stage.least}" + (f" to {stage.most}" if stage.most else " or more")
    seen = f"; {len(fitting)} with an entropy {above}, {skipped} of which were tried and cannot be asked about in text"
    raise found.too_few(split, wanted, len(chosen), seen, ", least")


@torch.no_grad()
def _entropies(stage: PositionsStage, policy: Policy, run: StageRun, found: _Pieces) -> list[np.ndarray]:
    """Of each piece the entropy of every token but its first, given those before it."""
    entropies: list[np.ndarray] = []
    for some in _blocks(found.tokens, _AT_ONCE * stage.tokens_per_microbatch):
        rows = [Row((), tuple(tokens.tolist()), number) for number, tokens in enumerate(some)]
        for batch in pack(rows, stage.tokens_per_microbatch):
            entropy_A = policy.entropy(batch, stage.top).cpu()
            entropies += [e.numpy() for e in entropy_A.split([len(rows[index].actions) for index in batch.rows])]
        run.progress.progress(len(entropies), len(found.tokens), "pieces of texts")
    return entropies


def _blocks(tokens: Sequence[np.ndarray], most: int) -> Iterator[list[np.ndarray]]:
    """Neighbouring pieces together, about so many tokens each time."""
    block: list[np.ndarray] = []
    for piece in tokens:
        block.append(piece)
        if sum(map(len, block)) >= most:
            yield block
            block = []
    if block:
        yield block
