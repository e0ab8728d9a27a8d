"""`tutelage replay`: a step, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tutelage.errors import ConfigError
from tutelage.pipelines import Replayed, replay_run
from tutelage.stages import Replay, Token
from tutelage.types import Sample

_COMPARED = ("loss", "grad_norm", "reward", "mismatch", "mismatch_max", "kl", "entropy", "clipped")


def print_step(console: Console, folder: Path, step: int, stage: str | None, sample: str | None) -> None:
    """Prints a step of a run as it is computed again.

    Args:
        sample: PROMPT/INDEX, to print the tokens of this answer only.
    """
    found = replay_run(folder, step, stage, console.print)
    if found.failure is not None:
        console.print(f"[bold red]not applied[/]: {escape(str(found.failure['message']))}", soft_wrap=True)
    if found.replay is None:
        console.print("its samples were cut away when the run went on; the batch that was kept lies beside the message")
        return
    _print_numbers(console, found, found.replay)
    samples = {_name(one): one for one in found.replay.samples}
    if sample is not None and sample not in samples:
        raise ConfigError(f"--sample {sample}: the step has {', '.join(list(samples)[:8])} ...")
    for name, one in samples.items():
        if sample in (None, name):
            _print_sample(console, name, one, found.replay.tokens.get(name))


def _print_numbers(console: Console, found: Replayed, replay: Replay) -> None:
    console.print(
        f"{found.stage} step {replay.step}, computed again from the weights of step {replay.checkpoint}",
        highlight=False,
    )
    if replay.error is not None:
        console.print(f"[bold red]not finite[/]: {escape(replay.error)}", soft_wrap=True)
        return
    table = Table("", "on record", "again", "difference")
    for name in _COMPARED:
        if name in replay.numbers:
            again, before = replay.numbers[name], found.recorded.get(name)
            known = ("", "") if before is None else (f"{before:.6g}", f"{again - before:.2g}")
            table.add_row(name, known[0], f"{again:.6g}", known[1])
    console.print(table)


def _print_sample(console: Console, name: str, sample: Sample, tokens: Sequence[Token] | None) -> None:
    parts = ", ".join(f"{label} {value:.4g}" for label, value in sample.rewards.items())
    earned = f"failed: {sample.failure}" if sample.reward is None else f"reward {sample.reward:.4g} ({parts})"
    console.print(f"\n[bold]{escape(name)}[/]  {escape(earned)}", highlight=False, soft_wrap=True)
    if tokens is None:
        console.print("  not computed: it has no credit", style="dim")
        return
    table = Table("", "token", "sampler", "learner", "difference", "advantage", "ratio", "clipped")
    for place, token in enumerate(tokens):
        numbers = (token.sampler, token.learner, token.difference, token.advantage, token.ratio)
        table.add_row(
            str(place), escape(repr(token.text)), *(f"{value:.4f}" for value in numbers), "yes" if token.clipped else ""
        )
    console.print(table)


def _name(sample: Sample) -> str:
    return f"{sample.prompt_id}/{sample.index}"
