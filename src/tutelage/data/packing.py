"""Packing: rows of tokens into flat batches under a token budget, without padding and without repeated prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import torch
from torch import Tensor

from tutelage.errors import DataError
from tutelage.types import Batch, Span


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence to learn from.

    Rows of the same `group` share their `context` (the prompt), which no action may lie in. `acted[i]` says whether the
    model wrote `tokens[i]` (None: all of them). `fields[name]` has one number for each action, or one for all of them.
    A `skipped` row is known to add nothing to the gradient: it is counted and not computed. `name` is for messages.
    """

    context: tuple[int, ...]
    tokens: tuple[int, ...]
    group: int
    acted: tuple[bool, ...] | None = None
    fields: Mapping[str, float | Sequence[float]] = field(default_factory=dict[str, "float | Sequence[float]"])
    skipped: bool = False
    name: str = ""

    @property
    def actions(self) -> list[int]:
        """Which of `tokens` are actions. The first token of a row without context has no predictor and is none."""
        first = 0 if self.context else 1
        return [i for i in range(first, len(self.tokens)) if self.acted is None or self.acted[i]]


def pack(rows: Sequence[Row], tokens_per_microbatch: int, whole_groups: bool = False) -> list[Batch]:
    """Cuts rows, in their order, into batches of at most `tokens_per_microbatch` positions.

    As few batches as the budget allows, and these as even as can be: one that is full and one that is nearly empty
    would take more memory, and more time. The first batch carries the counts of the skipped rows; where all are
    skipped it is an empty one.

    Args:
        whole_groups: keeps neighbours of one group in one batch, for losses that compare them.

    Raises:
        DataError: a row, or a group that must stay whole, does not fit; the message names the budget that would do.
    """
    units = _units(rows, whole_groups)
    for unit in units:  # skipped ones too: they will not always be
        if (alone := _size(rows, unit, set())) > tokens_per_microbatch:
            what = "a sequence" if len(unit) == 1 else f"a group of {len(unit)} sequences"
            raise DataError(
                f"{what} of {alone} tokens does not fit into tokens_per_microbatch = {tokens_per_microbatch}; "
                f"set it to {alone} or more, or shorten the sequences (max_new_tokens, the prompts)"
            )
    units = [kept for unit in units if (kept := [index for index in unit if not rows[index].skipped])]
    parts = _even_parts(rows, units, tokens_per_microbatch)
    skipped = [row for row in rows if row.skipped]
    if skipped and not parts:
        parts = [[]]
    batches = [_assemble(rows, part) for part in parts]
    if skipped:
        tokens = sum(len(row.actions) for row in skipped)
        batches[0] = replace(batches[0], skipped_tokens=tokens, skipped_sequences=len(skipped))
    return batches


def least_budget(rows: Sequence[Row], whole_groups: bool = False) -> int:
    """The fewest `tokens_per_microbatch` that `pack` takes for these rows."""
    return max((_size(rows, unit, set()) for unit in _units(rows, whole_groups)), default=0)


def _units(rows: Sequence[Row], whole_groups: bool) -> list[list[int]]:
    """What stays in one batch: each row, or neighbours of one group."""
    return [list(unit) for _, unit in groupby(range(len(rows)), lambda i: rows[i].group if whole_groups else i)]


def _even_parts(rows: Sequence[Row], units: Sequence[Sequence[int]], most: int) -> list[list[int]]:
    """The parts under the least budget that needs no more of them than the largest one does."""
    parts = _parts(rows, units, most)
    low, high = 0, most  # too little, enough
    while len(parts) > 1 and high - low > max(1, most // 64):
        middle = (low + high) // 2
        tried = _parts(rows, units, middle)
        if len(tried) > len(parts):
            low = middle
        else:
            parts, high = tried, middle
    return parts


def _parts(rows: Sequence[Row], units: Sequence[Sequence[int]], budget: int) -> list[list[int]]:
    """The units, in their order, in parts within the budget; a unit above it is a part by itself."""
    parts: list[list[int]] = []
    used = 0
    groups: set[int] = set()
    for unit in units:
        more = _size(rows, unit, groups)
        if not parts or used + more > budget:
            parts.append([])
            used, groups = 0, set()
            more = _size(rows, unit, groups)
        parts[-1] += unit
        used += more
        groups |= {rows[index].group for index in unit}
    return parts


def _size(rows: Sequence[Row], unit: Sequence[int], present: set[int]) -> int:
    """Positions that rows of one group take in a batch where the prompts of `present` groups are already."""
    first = rows[unit[0]]
    own = sum(len(rows[index].tokens) for index in unit)
    return own if first.group in present else own + len(first.context)


def _assemble(rows: Sequence[Row], chosen: Sequence[int]) -> Batch:
    """One packed batch out of the chosen rows."""
    tokens: list[int] = []
    positions: list[int] = []
    spans: list[Span] = []
    contexts: dict[int, Span] = {}
    action: list[int] = []
    source: list[int] = []
    sequence: list[int] = []
    names = rows[chosen[0] if chosen else 0].fields.keys()
    fields: dict[str, list[float]] = {name: [] for name in names}

    def append(stretch: Sequence[int], context: Span | None) -> Span:
        before = context.length if context else 0
        span = Span(len(tokens), len(stretch), context.start if context else 0, before)
        tokens.extend(stretch)
        positions.extend(range(before, before + len(stretch)))
        spans.append(span)
        return span

    for number, index in enumerate(chosen):
        row = rows[index]
        context = None
        if row.context:
            if row.group not in contexts:
                contexts[row.group] = append(row.context, None)
            context = contexts[row.group]
        actions = row.actions
        if row.tokens:
            span = append(row.tokens, context)
            action.extend(span.start + i for i in actions)
            last_of_context = context.start + context.length - 1 if context else -1
            source.extend(span.start + i - 1 if i else last_of_context for i in actions)
        sequence.extend([number] * len(actions))
        assert row.fields.keys() == names, "every row of a batch carries the same fields"
        for name, values in row.fields.items():
            column = [float(values)] * len(actions) if isinstance(values, (int, float)) else list(values)
            assert len(column) == len(actions), f"field '{name}' of row {index}: one value for each action"
            fields[name].extend(column)

    def integers(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64)

    return Batch(
        tokens_N=integers(tokens),
        positions_N=integers(positions),
        spans=tuple(spans),
        action_A=integers(action),
        source_A=integers(source),
        sequence_A=integers(sequence),
        rows=tuple(chosen),
        names=tuple(rows[index].name for index in chosen),
        prompts=len({rows[index].group for index in chosen}),
        fields={name: torch.tensor(values, dtype=torch.float32) for name, values in fields.items()},
    )
