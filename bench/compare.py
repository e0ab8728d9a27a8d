"""Ours and the peer's variants on one case, each variant beside ours in a run of its own; and the table of it."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.alternate import Program, ProgramFailed, Running, alternate
from bench.settings import Settings

Row = dict[str, Any]
_SAME = ("prompt_tokens", "learned_tokens")  # facts that both sides must agree on
_LOSS_TOLERANCE = 0.01  # two forwards in bf16


def compare(
    case: Mapping[str, Any],
    ours: Program,
    peers: Sequence[Program],
    settings: Settings,
    same_loss: bool = False,
    tokens: int | None = None,
) -> Iterator[Row]:
    """One row for each peer, or one of ours alone where there is none. A peer that fails is a row too.

    Args:
        same_loss: both learn the same tokens, so the loss of the first step must be the same but for rounding.
        tokens: how many each step of either side must write; None: not checked.

    Raises:
        ProgramFailed: ours failed, or the two did not do the same work.
    """
    if not settings.wants(case["case"]):
        return
    if settings.peer is None:
        (alone,) = alternate([ours], settings.steps, settings.warmup)
        _refuse_other_length(case["case"], alone, tokens)
        yield {**case, "ours": alone.result()}
        return
    for peer in peers:
        print(f"  {case['case']}, {peer.name}", file=sys.stderr, flush=True)
        try:
            mine, theirs = alternate([ours, peer], settings.steps, settings.warmup)
        except ProgramFailed as error:
            if not str(error).startswith(peer.name):
                raise
            yield {**case, "failed": str(error).splitlines()[-1], "peer": {"name": peer.name}}
            continue
        _refuse_other_work(case["case"], mine, theirs, same_loss)
        for one in (mine, theirs):
            _refuse_other_length(case["case"], one, tokens)
        yield {**case, "ours": mine.result(), "peer": theirs.result()}


def _refuse_other_work(case: str, ours: Running, peer: Running, same_loss: bool) -> None:
    pairs = {name: (ours.facts.get(name), peer.facts.get(name)) for name in _SAME}
    different = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if same_loss:
        losses = ours.first["loss"], peer.first["loss"]
        if not math.isclose(*losses, rel_tol=_LOSS_TOLERANCE):
            different["the first step's loss"] = losses
    for name, (mine, theirs) in different.items():
        raise ProgramFailed(f"{case}: {name} is {mine} in ours and {theirs} in {peer.program.name}: not the same work")


def _refuse_other_length(case: str, one: Running, tokens: int | None) -> None:
    for step in one.steps:
        if tokens is not None and step["tokens"] != tokens:
            raise ProgramFailed(f"{case}: {one.program.name} wrote {step['tokens']:.0f} tokens in a step, not {tokens}")


def ratio(row: Row) -> float:
    """How many times longer the peer's step takes."""
    return row["peer"]["median_seconds"] / row["ours"]["median_seconds"]


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table. Numbers have three digits, and whole ones are not cut."""

    def shown(value: object) -> str:
        if not isinstance(value, float):
            return str(value)
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"

    lines = [list(header), ["---"] * len(header), *[[shown(cell) for cell in row] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table(rows: Sequence[Row], rate: str) -> str:
    """Seconds, tokens a second, and memory of both.

    Args:
        rows: of `compare`.
        rate: the number or fact that counts the tokens of a step.
    """
    header = ["case", "peer", "ours s", "peer s", "times", "ours tok/s", "peer tok/s", "ours GB", "peer GB", "share"]
    return markdown(header, [_cells(row, rate) for row in rows])


def _cells(row: Row, rate: str) -> list[object]:
    if "failed" in row:
        return [row["case"], _peer(row), row["failed"], *["-"] * 7]
    mine = row["ours"]
    speed = _tokens(mine, rate) / mine["median_seconds"]
    if "peer" not in row:
        return [row["case"], "-", mine["median_seconds"], "-", "-", speed, "-", mine["peak_gb"], "-", "-"]
    theirs = row["peer"]
    their_speed = _tokens(theirs, rate) / theirs["median_seconds"]
    return [
        row["case"], _peer(row), mine["median_seconds"], theirs["median_seconds"], ratio(row), speed, their_speed,
        mine["peak_gb"], theirs["peak_gb"], mine["peak_gb"] / theirs["peak_gb"],
    ]  # fmt: skip


def _peer(row: Row) -> str:
    return row["peer"]["name"].removeprefix("peer: ")


def _tokens(side: Mapping[str, Any], rate: str) -> float:
    return side["phases"].get(rate) or side[rate]
