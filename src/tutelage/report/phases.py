"""Where a step's time and memory go, and what reward was bought with how much KL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tutelage.report.charts import lines, stacked
from tutelage.report.read import Row, Run, StageRecord

_TIMES: Mapping[str, str] = {
    "generate_seconds": "sampling",
    "collect_seconds": "acting",
    "reward_seconds": "rewards",
    "learn_seconds": "learning",
    "checkpoint_seconds": "waiting for a checkpoint",
    "overhead_seconds": "around",
}
_MEMORY: Mapping[str, str] = {"generate_gib": "after sampling", "memory_gib": "after the step"}


@dataclass(frozen=True, slots=True)
class Phases:
    """Drawings of one stage; None where it does not tell."""

    stage: StageRecord
    time: Markup | None
    memory: Markup | None


def phases(run: Run) -> list[Phases]:
    """One entry for each stage whose steps tell of time by phase, or of memory."""
    found: list[Phases] = []
    for stage in run.stages:
        rows = [_apart(row) for row in stage.rows]
        steps = [row["step"] for row in rows]
        time = _columns(rows, _TIMES) if any("learn_seconds" in row for row in rows) else {}
        memory = _columns(rows, _MEMORY)
        if time or memory:
            found.append(
                Phases(
                    stage,
                    Markup(stacked(f"seconds of each step of {stage.name}, by phase", steps, time)) if time else None,
                    Markup(lines(f"memory of {stage.name}, GiB", {n: (steps, v) for n, v in memory.items()}))
                    if memory
                    else None,
                )
            )
    return found


def frontier(run: Run) -> Markup | None:
    """The reward of each step over the KL of a whole answer to its anchor; None where no stage measured one.

    Of two stages, or two settings, that reach the same reward, the one further left has kept more of the model.
    """
    curves = {stage.name: frontier_of(stage) for stage in run.stages}
    known = {name: points for name, points in curves.items() if points[0]}
    if not known:
        return None
    return Markup(lines("reward over the KL of an answer to the reference, nats", known, ordered=False))


def frontier_of(stage: StageRecord) -> tuple[list[float], list[float]]:
    """KL of an answer (a token's times the mean length) and reward, step by step."""
    wanted = ("kl", "length", "reward")
    rows = [row for row in stage.rows if all(isinstance(row.get(name), (int, float)) for name in wanted)]
    return [max(0.0, row["kl"] * row["length"]) for row in rows], [row["reward"] for row in rows]


def _apart(row: Row) -> Row:
    """The wait for a checkpoint is a part of learning, as it is measured; here it is shown apart."""
    both = all(isinstance(row.get(name), (int, float)) for name in ("learn_seconds", "checkpoint_seconds"))
    return {**row, "learn_seconds": max(0.0, row["learn_seconds"] - row["checkpoint_seconds"])} if both else row


def _columns(rows: Sequence[Row], names: Mapping[str, str]) -> dict[str, list[float]]:
    """The columns that any row has, by what they are called here; a gap counts as 0."""
    return {
        called: [float(row.get(name) or 0.0) for row in rows]
        for name, called in names.items()
        if any(isinstance(row.get(name), (int, float)) for row in rows)
    }
