"""`tutelage watch`: a run's report on this machine's own address, or a view of it on the terminal."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import sleep

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tutelage.cli.display import SHOWN, sparkline
from tutelage.errors import ConfigError, MissingExtraError
from tutelage.report.follow import Follower, Seen, warning
from tutelage.report.read import Row
from tutelage.training.progress import duration

_EVERY = 1.0  # seconds between two looks
_POINTS = 40  # of a small curve
_SAMPLES, _WARNINGS = 3, 3


def serve(folder: Path, port: int, console: Console) -> None:
    """Serves the report until it is interrupted. Raises ConfigError where the port is taken."""
    try:
        import uvicorn

        from tutelage.report.server import LOOPBACK, app_of
    except ImportError as error:
        raise MissingExtraError(error.name or "starlette", "watch", "tutelage watch") from None
    _step_back()
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((LOOPBACK, port))
        listening.listen()  # before the address is told: who opens it at once waits for the page, and is not refused
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--port {port}: cannot listen there: {error}; leave it out for a free one") from None
    port = listening.getsockname()[1]
    console.print(f"watching {folder} at http://{LOOPBACK}:{port}/  (Ctrl-C ends it; the run goes on)", highlight=False)
    config = uvicorn.Config(app_of(folder, port), log_level="warning", server_header=False, timeout_graceful_shutdown=1)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def watch_here(folder: Path, console: Console) -> None:
    """Shows the run on the terminal until it is done or one stops looking."""
    _step_back()
    follower = Follower(folder)
    with suppress(KeyboardInterrupt), Live(console=console, refresh_per_second=2) as live:
        while True:
            follower.look()
            live.update(view(follower.seen, console.width), refresh=True)
            if follower.seen.done:
                return
            sleep(_EVERY)


def view(seen: Seen, width: int) -> RenderableType:
    """What there is to see of a run, in so many columns."""
    if not seen.stages:
        return Text("waiting for a run to begin here", style="dim")
    stage = seen.current
    if stage is None:
        return Panel(Text("finished", style="green"), title=Text(seen.name, style="bold"), title_align="left")
    rows = seen.rows
    shown: list[RenderableType] = []
    step = rows[-1]["step"] if rows else 0
    if isinstance(stage.get("steps"), int):
        shown.append(_bar(step, stage["steps"], rows))
    if rows:
        shown.append(_curves(rows))
    for sample in list(seen.samples)[-_SAMPLES:]:
        shown.append(_sample(sample, width))
    shown += [Text(warning(event), style="red") for event in seen.events[-_WARNINGS:]]
    silent = seen.silent_for()
    if silent > 120:
        shown.append(Text(f"nothing written for {duration(silent)}", style="yellow"))
    title = Text.assemble(
        (seen.name, "bold"), f"  {stage['name']} ({stage['type']})  stage {seen.place}/{len(seen.stages)}"
    )
    return Panel(Group(*(shown or [Text("loading", style="dim")])), title=title, title_align="left", border_style="dim")


def _bar(step: int, steps: int, rows: Sequence[Row]) -> Table:
    taken = [row["step_seconds"] for row in rows[-20:] if isinstance(row.get("step_seconds"), (int, float))]
    left = f"{duration(sum(taken) / len(taken) * (steps - step))} left" if taken else ""
    bar = Table.grid(padding=(0, 2), expand=True)
    bar.add_column(min_width=20)
    bar.add_column(ratio=1)
    bar.add_column(justify="right", min_width=12)
    bar.add_row(f"step {step} of {steps}", ProgressBar(total=steps, completed=step), Text(left, style="dim"))
    return bar


def _curves(rows: Sequence[Row]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for name, (label, spec) in SHOWN.items():
        values = [row[name] for row in rows[-_POINTS:] if isinstance(row.get(name), (int, float))]
        if values:
            grid.add_row(Text(label, style="dim"), Text(format(values[-1], spec), style="bold"),
                         Text(sparkline(values), style="cyan"))  # fmt: skip
    return grid


def _sample(sample: Row, width: int) -> Text:
    """A line of a sample. Control characters are shown, never obeyed: a model may have written any."""
    reward = sample.get("reward")
    worth = f"{reward:.3g}" if isinstance(reward, (int, float)) else "failed" if sample.get("failure") else "–"
    asked, said = (printable(str(sample.get(name) or "")) for name in ("prompt", "text"))
    room = max(20, width - 20)
    return Text.assemble((f"{worth:>7}  ", "bold"), (asked[: room // 3], "dim"), " → ", said[: room - room // 3])


def printable(text: str) -> str:
    """A text without what a terminal would obey."""
    return "".join(char if char.isprintable() else "␤" if char == "\n" else "·" for char in text)


def _step_back() -> None:
    """Lets the run have the processor first."""
    with suppress(OSError):
        os.nice(10)
