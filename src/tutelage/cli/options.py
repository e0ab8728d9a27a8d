"""Options that several commands share, and where the commands print."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console(emoji=False)  # `:train:` is part of a name, or of an answer

RecipeName = Annotated[str, typer.Argument(help="A TOML file, or the name of a shipped recipe.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="stage.key=value or key=value; may be given many times.")
]
Out = Annotated[Path | None, typer.Option("--out", help="The run's folder. Default: runs/NAME-TIME.")]
UnsafeExec = Annotated[
    bool,
    typer.Option(
        "--unsafe-exec",
        help="Where no sandbox holds, run code that a model wrote as a bare process, which can do whatever you can.",
    ),
]


def run_folder(out: Path | None, name: str) -> Path:
    """The folder that was given, or one named after what runs and when."""
    return out or Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
