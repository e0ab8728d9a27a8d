"""`tutelage check --plan`: how much memory and time each stage will take, as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tutelage.errors import ConfigError
from tutelage.pipelines import RunPlan
from tutelage.planning import Forecast, Unplanned, forecast
from tutelage.training.progress import duration

_GB = 1e9


def print_plan(console: Console, plan: RunPlan, on: str | None, answer: int | None, out: Path | None) -> None:
    """Prints the forecast of a run. Raises ConfigError where a stage would not fit, with the nearest that does.

    Args:
        on: an accelerator instead of this machine.
        answer: tokens of an answer.
        out: a file for the same as JSON.
    """
    stages = forecast(
        plan.recipe, plan.stages, plan.on_this_machine(), lambda line: console.print(f"  {escape(line)}"), on, answer
    )
    if out is not None:
        out.write_text(json.dumps([as_json(one) for one in stages], indent=1) + "\n", encoding="utf-8")
    console.print(_table(stages))
    for one in stages:
        if isinstance(one, Forecast):
            parts = sorted(one.memory.items(), key=lambda part: -part[1])
            said = ", ".join(f"{name} {size / _GB:.2f}" for name, size in parts if size >= 5e6)
            console.print(
                f"{one.stage}: {said} GB{'; ' if one.assumed else ''}{one.assumed}", highlight=False, soft_wrap=True
            )
        else:
            console.print(f"{one.stage}: not planned: {one.why}", highlight=False, soft_wrap=True)
    console.print(_in_all(stages, on), highlight=False, soft_wrap=True)
    _refuse_what_does_not_fit(stages)


def as_json(one: Forecast | Unplanned) -> dict[str, object]:
    """A stage's forecast as plain values."""
    if isinstance(one, Unplanned):
        return {"stage": one.stage, "type": one.type, "why": one.why}
    return {
        "stage": one.stage,
        "type": one.type,
        "steps": one.steps,
        "memory_bytes": dict(one.memory),
        "peak_bytes": one.peak,
        "limit_bytes": one.limit,
        "fits": one.fits,
        "remedy": one.remedy,
        "step_seconds": one.seconds,
        "seconds": one.total,
        "assumed": one.assumed,
    }


def _table(stages: Sequence[Forecast | Unplanned]) -> Table:
    table = Table("stage", "type", "steps", "a step", "in all", "memory, GB", "of")
    for one in stages:
        if isinstance(one, Unplanned):
            table.add_row(one.stage, one.type, "", "", "", "", "")
            continue
        fits = f"{one.peak / _GB:.1f}" if one.fits else f"[bold red]{one.peak / _GB:.1f}[/]"
        step = "" if one.steps == 1 and not one.memory.get("optimizer") else f"{one.seconds:.3g} s"
        table.add_row(one.stage, one.type, str(one.steps), step, duration(one.total), fits, f"{one.limit / _GB:.1f}")
    return table


def _in_all(stages: Sequence[Forecast | Unplanned], on: str | None) -> str:
    planned = [one for one in stages if isinstance(one, Forecast)]
    if not planned:
        return "no stage could be planned"
    total, peak = sum(one.total for one in planned), max(one.peak for one in planned)
    where = "as probed on this machine" if on is None else f"by the published figures of {on}, not measured"
    partly = "" if len(planned) == len(stages) else f" for {len(planned)} of {len(stages)} stages"
    return (
        f"in all {duration(total)} and {peak / _GB:.1f} GB{partly}, {where}; see docs/planning.md for what is left out"
    )


def _refuse_what_does_not_fit(stages: Sequence[Forecast | Unplanned]) -> None:
    for one in stages:
        if isinstance(one, Forecast) and not one.fits:
            raise ConfigError(
                f"{one.stage}: would take {one.peak / _GB:.1f} GB, and there are {one.limit / _GB:.1f}; what fits: "
                f"{one.remedy}"
            )
