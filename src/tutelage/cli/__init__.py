"""The command line."""

from __future__ import annotations

import sys

from tutelage import interrupts


def main() -> None:
    """Entry point of `tutelage`. A refusal is printed without a traceback and exits with 2, Ctrl-C 130, SIGTERM 143."""
    from tutelage.cli.process import prepare_process

    prepare_process()  # before anything loads torch
    interrupts.listen()
    sys.path.insert(0, "")  # a recipe's `module:name` may lie in the current folder

    from rich.console import Console

    from tutelage.cli.commands import app
    from tutelage.errors import TutelageError

    console = Console(stderr=True, emoji=False)
    try:
        app()
    except TutelageError as error:
        console.print(f"[bold red]refused[/] [dim]({type(error).__name__})[/]", highlight=False)
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        for note in getattr(error, "__notes__", ()):
            console.print(note, markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except SystemExit:
        if (code := interrupts.exit_code()) is not None:  # typer has ended an interrupted command in its own way
            sys.exit(code)
        raise
