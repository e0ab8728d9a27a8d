"""The commands that list what there is - recipes, suites, models, data sets - and fetch what is not here yet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tutelage.cli.options import console
from tutelage.config import find_recipe, find_suite, first_comment, shipped_recipes, shipped_suites


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe.")] = None,
) -> None:
    """List the recipes that ship, or print one."""
    _list_shipped(shipped_recipes(), "recipe", None if name is None else find_recipe(name))


def suites(
    name: Annotated[str | None, typer.Argument(help="Print this suite.")] = None,
) -> None:
    """List the suites that ship, or print one."""
    _list_shipped(shipped_suites(), "suite", None if name is None else find_suite(name))


def _list_shipped(shipped: Mapping[str, Path], what: str, printed: Path | None) -> None:
    """Prints one file, or the first lines of all."""
    if printed is not None:
        console.print(printed.read_text(encoding="utf-8"), markup=False, highlight=False, soft_wrap=True)
        return
    table = Table(what, "what it does")
    for name, path in shipped.items():
        table.add_row(name, first_comment(path))
    console.print(table)


models_app = typer.Typer(help="List the models known by name, and fetch them.", invoke_without_command=True)


@models_app.callback()
def models(context: typer.Context) -> None:
    """List the models known by name."""
    if context.invoked_subcommand is not None:
        return
    from tutelage.models import known_models, resolve

    table = Table("name", "on this machine", "from")
    for name in known_models():
        resolved = resolve(name)
        table.add_row(name, str(resolved.folder or "no"), resolved.source)
    console.print(table)


@models_app.command()
def fetch(name: Annotated[str, typer.Argument(help="A known name, or a Hugging Face name.")]) -> None:
    """Fetch a model into the cache."""
    from tutelage.models import fetch as fetch_model

    console.print(str(fetch_model(name, console.print)), soft_wrap=True)


data_app = typer.Typer(help="List the data sets known by name, and fetch them.", invoke_without_command=True)


@data_app.callback()
def data(context: typer.Context) -> None:
    """List the data sets known by name, with their parts."""
    if context.invoked_subcommand is not None:
        return
    from tutelage.data import PACKAGED, data_folder

    for name, known in PACKAGED.items():
        console.print(f"{name}: {known.about}", soft_wrap=True)
        console.print(f"on this machine: {data_folder(name) or 'no'}", highlight=False, soft_wrap=True)
        console.print(f"from: {', '.join(archive.requirement for archive in known.archives)}", highlight=False)
        table = Table("part", "what it is")
        for part, about in known.parts.items():
            table.add_row(part, about)
        console.print(table)


@data_app.command("fetch")
def fetch_data(name: Annotated[str, typer.Argument(help="A known name.")]) -> None:
    """Fetch a data set into the cache."""
    from tutelage.data import fetch_data as fetch_data_set

    console.print(str(fetch_data_set(name, console.print)), soft_wrap=True)
