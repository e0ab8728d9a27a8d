"""The commands that run a recipe, and those that ask beforehand or go on afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tutelage.cli.looking import show_aggregate
from tutelage.cli.options import Out, Overrides, RecipeName, UnsafeExec, console, run_folder
from tutelage.config import find_recipe, read_recipe
from tutelage.errors import ConfigError

if TYPE_CHECKING:
    from tutelage.cli.display import Display

Force = Annotated[
    list[str] | None, typer.Option("--force", help="A stage that runs though nothing has changed; may be given often.")
]


def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    out: Out = None,
    force: Force = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="So many runs, of the recipe's seed and the next ones, in one folder.")
    ] = None,
    unsafe_exec: UnsafeExec = False,
) -> None:
    """Run a recipe. In a folder where it ran before, only what has changed, and what depends on it."""
    from tutelage.pipelines import run_recipe, run_seeds
    from tutelage.sandbox import permit_unsafe_exec

    permit_unsafe_exec(unsafe_exec)
    declared = read_recipe(find_recipe(recipe), overrides or ())
    folder = run_folder(out, declared.name)
    again = f"tutelage run {recipe} --seeds {seeds} --out {folder}, with the same --set" if seeds else None
    with _display_of_run(folder, again) as display:
        if seeds is not None:
            runs = run_seeds(declared, folder, seeds, display, force or ())
            show_aggregate(runs, ())
            return
        display.note(f"run folder: {folder}")
        report = run_recipe(declared, folder, display, force or ())
    _conclude(report)


def check(
    recipe: RecipeName,
    overrides: Overrides = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Also how much memory and time each stage will take, by a short probe.")
    ] = False,
    on: Annotated[
        str | None, typer.Option("--on", help="With --plan: an accelerator's published figures, not this machine.")
    ] = None,
    answer_tokens: Annotated[
        int | None, typer.Option(min=1, help="With --plan: tokens of an answer. Default: as long as they are now.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="With --plan: the same, into a file.")] = None,
    unsafe_exec: UnsafeExec = False,
) -> None:
    """Resolve everything a recipe names, print what would run, and refuse mistakes. Without --plan loads no weight."""
    from tutelage.pipelines import plan_recipe
    from tutelage.sandbox import permit_unsafe_exec

    permit_unsafe_exec(unsafe_exec)
    if not plan and (on, answer_tokens, json_file) != (None, None, None):
        raise ConfigError("--on, --answer-tokens and --json are about the plan: add --plan")
    planned = plan_recipe(read_recipe(find_recipe(recipe), overrides or ()), must_reach=False)
    for line in planned.lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if plan:
        from tutelage.cli.plan import print_plan

        print_plan(console, planned, on, answer_tokens, json_file)


def resume(folder: Annotated[Path, typer.Argument(help="The run's folder.")], unsafe_exec: UnsafeExec = False) -> None:
    """Go on with a run where it was."""
    from tutelage.pipelines import resume_run
    from tutelage.sandbox import permit_unsafe_exec

    permit_unsafe_exec(unsafe_exec)
    with _display_of_run(folder) as display:
        report = resume_run(folder, display)
    _conclude(report)


def status(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    recipe: Annotated[str | None, typer.Argument(help="A recipe; by default the one that ran there.")] = None,
    overrides: Overrides = None,
    unsafe_exec: UnsafeExec = False,
) -> None:
    """Say which stages would run in a folder, which stand, and why."""
    from tutelage.pipelines import run_status
    from tutelage.sandbox import permit_unsafe_exec

    permit_unsafe_exec(unsafe_exec)
    declared = read_recipe(find_recipe(recipe), overrides or ()) if recipe is not None else None
    table = Table("stage", "type", "would", "because")
    for one in run_status(folder, declared):
        would = {"stands": "stand", "runs": "run", "goes on": "go on"}[one.decision.do]
        table.add_row(one.stage.name, one.stage.type, would, one.decision.why)
    console.print(table)


def replay(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    step: Annotated[int, typer.Option(help="Which step, from 1.", min=1)],
    stage: Annotated[str | None, typer.Option(help="Of which rl stage, where the run has several.")] = None,
    sample: Annotated[str | None, typer.Option(help="Print the tokens of this answer only: PROMPT/INDEX.")] = None,
) -> None:
    """Compute a step of a run again and print it token by token. Changes nothing."""
    from tutelage.cli.replay import print_step

    print_step(console, folder, step, stage, sample)


@contextmanager
def _display_of_run(folder: Path, again: str | None = None) -> Iterator[Display]:
    """A display that says, when the run is interrupted, how it goes on."""
    from tutelage.cli.display import Display

    with Display() as display:
        try:
            yield display
        except KeyboardInterrupt:
            how = again or f"tutelage resume {folder}"
            display.note(f"interrupted; the last finished step is saved; go on with: {how}")
            raise


def _conclude(report: Path) -> None:
    from tutelage.report import outcome

    console.print(outcome(report.parent), highlight=False, soft_wrap=True)
    console.print(f"report: {report}", highlight=False, soft_wrap=True)
