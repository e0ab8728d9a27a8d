"""The commands that put questions: to models, to rewards, and by hand."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.options import Out, UnsafeExec, console, run_folder
from tutelage.config import find_suite, read_suite
from tutelage.errors import ConfigError


class Kind(StrEnum):
    """What a reward is, for an audit."""

    answer = "answer"
    judge = "judge"
    form = "form"


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
    folder = run_folder(out, asked.name)
    with Display() as display:
        results = evaluate_models(asked, models, seed, folder, display)
    rows = score_rows(models, results)
    console.print(score_table(models, rows))
    for line in remarks(rows, results, None if detect is None else detect / 100):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)


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
