"""All commands, in the order of `--help`. They import heavy modules where they use them, so that it answers at once."""

from __future__ import annotations

import typer

from tutelage.cli.asking import audit, chat, evaluate
from tutelage.cli.looking import aggregate, export_run, report, watch
from tutelage.cli.running import check, replay, resume, run, status
from tutelage.cli.shelves import data_app, models_app, recipes, suites

app = typer.Typer(
    help="Reinforcement learning of language models over their whole life.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (run, check, resume, status, replay, report, watch):
    app.command()(command)
app.command("export")(export_run)
for command in (aggregate, evaluate, suites, audit, chat, recipes):
    app.command()(command)
app.add_typer(models_app, name="models")
app.add_typer(data_app, name="data")
