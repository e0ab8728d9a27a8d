"""The commands. Heavy modules are imported where they are used, so that `--help` answers at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from tutelage.config import (
    find_recipe,
    find_suite,
    first_comment,
    read_recipe,
    read_suite,
    shipped_recipes,
    shipped_suites,
)
from tutelage.errors import ConfigError

if TYPE_CHECKING:
    from tutelage.cli.display import Display

app = typer.Typer(
    help="Reinforcement learning of language models over their whole life.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console()


class Kind(StrEnum):
    """What a reward is, for an audit."""

    answer = "answer"
    judge = "judge"
    form = "form"


RecipeName = Annotated[str, typer.Argument(help="A TOML file, or the name of a shipped recipe.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="stage.key=value or key=value; may be given many times.")
]
Out = Annotated[Path | None, typer.Option("--out", help="The run's folder. Default: runs/NAME-TIME.")]


Force = Annotated[
    list[str] | None, typer.Option("--force", help="A stage that runs though nothing has changed; may be given often.")
]


UnsafeExec = Annotated[
    bool,
    typer.Option(
        "--unsafe-exec",
        help="Where no sandbox holds, run code that a model wrote as a bare process, which can do whatever you can.",
    ),
]


@app.command()
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
    folder = out or Path("runs") / f"{declared.name}-{datetime.now():%Y%m%d-%H%M%S}"
    again = f"tutelage run {recipe} --seeds {seeds} --out {folder}, with the same --set" if seeds else None
    with _display_of_run(folder, again) as display:
        if seeds is not None:
            runs = run_seeds(declared, folder, seeds, display, force or ())
            _show_aggregate(runs, ())
            return
        display.note(f"run folder: {folder}")
        report = run_recipe(declared, folder, display, force or ())
    _conclude(report)


@app.command()
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


@app.command()
def resume(folder: Annotated[Path, typer.Argument(help="The run's folder.")], unsafe_exec: UnsafeExec = False) -> None:
    """Go on with a run where it was."""
    from tutelage.pipelines import resume_run
    from tutelage.sandbox import permit_unsafe_exec

    permit_unsafe_exec(unsafe_exec)
    with _display_of_run(folder) as display:
        report = resume_run(folder, display)
    _conclude(report)


@app.command()
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


@app.command()
def replay(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    step: Annotated[int, typer.Option(help="Which step, from 1.", min=1)],
    stage: Annotated[str | None, typer.Option(help="Of which rl stage, where the run has several.")] = None,
    sample: Annotated[str | None, typer.Option(help="Print the tokens of this answer only: PROMPT/INDEX.")] = None,
) -> None:
    """Compute a step of a run again and print it token by token. Changes nothing."""
    from tutelage.cli.replay import print_step

    print_step(console, folder, step, stage, sample)


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="Run folders; several give one page about all of them.")],
    out: Annotated[Path | None, typer.Option("--out", help="The page. Default: RUN/report.html, runs.html.")] = None,
) -> None:
    """Write a run's report.html again, or lay several runs over each other on one page."""
    from tutelage.report import build_overlay, build_report

    path = build_report(folders[0], out) if len(folders) == 1 else build_overlay(folders, out or Path("runs.html"))
    console.print(f"report: {path}", highlight=False, soft_wrap=True)


@app.command()
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


@app.command("export")
def export_run(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    format: Annotated[str, typer.Option("--format", help="csv or parquet.")] = "csv",
    out: Annotated[Path | None, typer.Option("--out", help="Where to. Default: RUN/export.")] = None,
) -> None:
    """Write a run's metrics and samples as tables."""
    from tutelage.report import write_tables

    for path in write_tables(folder, format, out or folder / "export"):
        console.print(str(path), highlight=False, soft_wrap=True)


@app.command()
def aggregate(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs, or of runs of several seeds.")],
    together: Annotated[
        list[str] | None, typer.Option(help="A stage that is one task of a figure over several; give it for each.")
    ] = None,
) -> None:
    """What the evaluations of several runs come to: interquartile means with intervals over runs."""
    from tutelage.pipelines import runs_in

    _show_aggregate(runs_in(folders), together or ())


def _show_aggregate(runs: Sequence[Path], together: Sequence[str]) -> None:
    from tutelage.pipelines import aggregate as aggregated

    table = Table("evaluation", "interquartile mean", f"95 % over {len(runs)} runs", "each run")
    for row in aggregated(runs, together):
        interval = "one run: none" if row.low is None else f"{row.low:.3f} to {row.high:.3f}"
        each = ", ".join("/".join(f"{score:.3f}" for score in own) for own in row.scores)
        table.add_row(row.name, f"{row.mean:.3f}", interval, each)
    console.print(table)


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


@app.command()
def evaluate(
    models: Annotated[list[str], typer.Argument(help="Model names or folders; the first is compared with the others.")],
    environment: Annotated[
        str, typer.Option(help="RECIPE:NAME, one of a recipe's environments, or a built-in type such as arithmetic.")
    ] = "arithmetic",
    suite: Annotated[str | None, typer.Option(help="A suite's file or a shipped one's name, instead.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the environment; of a suite, stage.key=value.")
    ] = None,
    questions: Annotated[int | None, typer.Option(help="How many questions; default all of the test split.")] = None,
    opponent: Annotated[str | None, typer.Option(help="In a game: whom to play, random or optimal.")] = None,
    samples: Annotated[int | None, typer.Option(help="Samples per question; default 1.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Default 0: greedy.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Default 256.")] = None,
    detect: Annotated[
        float | None, typer.Option(help="The least change worth knowing, in points: says where it cannot be seen.")
    ] = None,
    seed: Annotated[int, typer.Option()] = 0,
    out: Out = None,
    unsafe_exec: UnsafeExec = False,
) -> None:
    """Ask models the same questions; print measures with intervals and paired tests against the first model."""
    from tutelage.cli.display import Display
    from tutelage.cli.evaluate import evaluate_models, remarks, score_rows, score_table, single
    from tutelage.sandbox import permit_unsafe_exec

    permit_unsafe_exec(unsafe_exec)
    sampling = {"temperature": temperature, "max_new_tokens": max_new_tokens}
    given = {"questions": questions, "opponent": opponent, "samples": samples}
    stage = {key: value for key, value in given.items() if value is not None}
    if idle := [key for key, value in (sampling | given).items() if value is not None and suite is not None]:
        key = idle[0].replace("_", "-")
        raise ConfigError(f"--{key}: a suite says so itself; change it with --set STAGE.{idle[0]}=...")
    stage["sampling"] = {"temperature": temperature or 0.0, "max_new_tokens": max_new_tokens or 256}
    asked = (
        single(environment, overrides or [], stage) if suite is None else read_suite(find_suite(suite), overrides or [])
    )
    folder = out or Path("runs") / f"{asked.name}-{datetime.now():%Y%m%d-%H%M%S}"
    with Display() as display:
        results = evaluate_models(asked, models, seed, folder, display)
    rows = score_rows(models, results)
    console.print(score_table(models, rows))
    for line in remarks(rows, results, None if detect is None else detect / 100):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)


@app.command()
def suites(
    name: Annotated[str | None, typer.Argument(help="Print this suite.")] = None,
) -> None:
    """List the suites that ship, or print one."""
    _list_shipped(shipped_suites(), "suite", None if name is None else find_suite(name))


@app.command()
def audit(
    reward: Annotated[
        str,
        typer.Argument(
            help='A type (maths), a table (\'{type = "numeric", tag = "answer"}\') or a TOML file of one, '
            "module:function, or RECIPE#STAGE."
        ),
    ],
    questions: Annotated[
        Path | None, typer.Option(help="JSONL: question, answer, and perhaps wrong, equivalents.")
    ] = None,
    kind: Annotated[Kind | None, typer.Option(help="What the reward is; by default found out.")] = None,
    seconds: Annotated[float | None, typer.Option(help="For one answer. Default: 1; 60 for a judge.")] = None,
    max_false_positives: Annotated[float, typer.Option(help="Share of the wrong answers that may be paid for.")] = 0.0,
    max_false_negatives: Annotated[float, typer.Option(help="Share of the right answers that may not be.")] = 0.0,
    max_failures: Annotated[float, typer.Option(help="Share of all answers that may not be scored.")] = 0.0,
    json: Annotated[bool, typer.Option("--json", help="Print what came of every answer as JSON.")] = False,
) -> None:
    """Play adversaries against a reward: what it pays for that it should not, what it misses, and how long it takes.

    Exits with 1 where it is past one of the shares, or an answer took too long.
    """
    from tutelage.cli.audit import audit_rewards

    most = {"false positives": max_false_positives, "false negatives": max_false_negatives, "failures": max_failures}
    if not audit_rewards(console, reward, questions, kind and kind.value, seconds, most, json):
        raise typer.Exit(1)


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="A model's name or folder, or a run's folder.")],
    prompt: Annotated[str | None, typer.Option(help="Ask this one thing and leave.")] = None,
    system: Annotated[str | None, typer.Option(help="The system turn.")] = None,
    temperature: Annotated[float, typer.Option(help="0: greedy.")] = 0.7,
    max_new_tokens: Annotated[int, typer.Option()] = 256,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Talk with a model. An empty line ends the conversation."""
    from tutelage.cli.chat import hold_conversation

    hold_conversation(console, model, prompt, system, temperature, max_new_tokens, seed)


models_app = typer.Typer(help="List the models known by name, and fetch them.", invoke_without_command=True)
app.add_typer(models_app, name="models")


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
app.add_typer(data_app, name="data")


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


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe.")] = None,
) -> None:
    """List the recipes that ship, or print one."""
    _list_shipped(shipped_recipes(), "recipe", None if name is None else find_recipe(name))


def _list_shipped(shipped: Mapping[str, Path], what: str, printed: Path | None) -> None:
    """Prints one file, or the first lines of all."""
    if printed is not None:
        console.print(printed.read_text(encoding="utf-8"), markup=False, highlight=False, soft_wrap=True)
        return
    table = Table(what, "what it does")
    for name, path in shipped.items():
        table.add_row(name, first_comment(path))
    console.print(table)
