"""The command line."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Entry point of `tutelage`. Refusals are printed without a traceback and exit with 2; an interrupt, with 130."""
    from tutelage.cli.process import prepare_process

    prepare_process()  # before anything loads torch
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # asked to end: like Ctrl-C, a checkpoint is completed
    sys.path.insert(0, "")  # a recipe's `module:name` may lie in the current folder

    from rich.console import Console

    from tutelage.cli.commands import app
    from tutelage.errors import TutelageError

    console = Console(stderr=True)
    try:
        app()
    except TutelageError as error:
        console.print(f"[bold red]refused[/] [dim]({type(error).__name__})[/]", highlight=False)
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
