"""The commands that show what runs did: the page, the live view, tables, and what several runs come to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tutelage.cli.options import console


def report(
    folders: Annotated[list[Path], typer.Argument(help="Run folders; several give one page about all of them.")],
    out: Annotated[Path | None, typer.Option("--out", help="The page. Default: RUN/report.html, runs.html.")] = None,
) -> None:
    """Write a run's report.html again, or lay several runs over each other on one page."""
    from tutelage.report import build_overlay, build_report

    path = build_report(folders[0], out) if len(folders) == 1 else build_overlay(folders, out or Path("runs.html"))
    console.print(f"report: {path}", highlight=False, soft_wrap=True)


def watch(
    folder: Annotated[Path, typer.Argument(help="A run's folder; the run may be under way, or still to come.")],
    terminal: Annotated[bool, typer.Option("--terminal", help="Here, instead of in a browser.")] = False,
    port: Annotated[int, typer.Option(help="Of 127.0.0.1; 0: a free one.")] = 0,
) -> None:
    """Follow a run: its report in a browser of this machine, or a view on the terminal. Reads only."""
    from tutelage.cli.watch import serve, watch_here

    if terminal:
        watch_here(folder, console)
    else:
        serve(folder, port, console)


def export_run(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    format: Annotated[str, typer.Option("--format", help="csv or parquet.")] = "csv",
    out: Annotated[Path | None, typer.Option("--out", help="Where to. Default: RUN/export.")] = None,
) -> None:
    """Write a run's metrics and samples as tables."""
    from tutelage.report import write_tables

    for path in write_tables(folder, format, out or folder / "export"):
        console.print(str(path), highlight=False, soft_wrap=True)


def aggregate(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs, or of runs of several seeds.")],
    together: Annotated[
        list[str] | None, typer.Option(help="A stage that is one task of a figure over several; give it for each.")
    ] = None,
) -> None:
    """What the evaluations of several runs come to: interquartile means with intervals over runs."""
    from tutelage.pipelines import runs_in

    show_aggregate(runs_in(folders), together or ())


def show_aggregate(runs: Sequence[Path], together: Sequence[str]) -> None:
    from tutelage.pipelines import aggregate as aggregated

    table = Table("evaluation", "interquartile mean", f"95 % over {len(runs)} runs", "each run")
    for row in aggregated(runs, together):
        interval = "one run: none" if row.low is None else f"{row.low:.3f} to {row.high:.3f}"
        each = ", ".join("/".join(f"{score:.3f}" for score in own) for own in row.scores)
        table.add_row(row.name, f"{row.mean:.3f}", interval, each)
    console.print(table)
