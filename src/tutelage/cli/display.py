"""How a long command shows its way: a live panel on a terminal, one line a step anywhere else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tutelage.training.progress import duration

SHOWN: Mapping[str, tuple[str, str]] = {
    "reward": ("reward", ".3f"),
    "score": ("score", ".1%"),
    "loss": ("loss", ".4f"),
    "bits_per_byte": ("bits/byte", ".3f"),
    "entropy": ("entropy", ".3f"),
    "kl": ("KL", ".4f"),
    "length": ("length", ".1f"),
    "clipped": ("clipped", ".1%"),
    "tokens_per_second": ("tokens/s", ",.0f"),
}
"""The metrics worth a glance while a run goes on, in order: name, label, format. The report has them all."""

_BLOCKS = "▁▂▃▄▅▆▇█"
_SPARKS = 40  # steps that the little curve looks back


@dataclass(slots=True)
class _Stage:
    """Where the current stage is. `began` and `stepping` are clock times."""

    name: str
    kind: str
    place: str
    total_steps: int
    began: float
    stepping: float = 0.0  # since when it takes steps: what came before them says nothing of the time left
    step: int = 0
    heard: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    curve: list[float] = field(default_factory=list[float])
    inner: tuple[int, int, str] | None = None
    quarter: int = 0

    @property
    def seconds_left(self) -> float | None:
        """By the pace of the steps heard in this process: those before a resume took no time here."""
        if not self.heard:
            return None
        return (monotonic() - self.stepping) / self.heard * (self.total_steps - self.step)


class Display:
    """A `Progress` for people: use it as a context manager around a run."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(emoji=False)
        self._stage: _Stage | None = None
        self._live: Live | None = None

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_live()

    def begin_stage(self, name: str, kind: str, index: int, stages: int, total_steps: int) -> None:
        self._stage = stage = _Stage(name, kind, f"{index}/{stages}", total_steps, monotonic())
        if self._console.is_terminal:
            self._stop_live()
            self._live = Live(get_renderable=self._panel, console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        else:
            steps = f": {total_steps} steps" if total_steps else ""
            self._say(f"[{stage.place}] {name} ({kind}){steps}")

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        stage = self._current()
        if not stage.heard:
            stage.stepping = monotonic() - metrics.get("step_seconds", monotonic() - stage.began)
        stage.step, stage.metrics, stage.inner, stage.quarter = step, metrics, None, 0
        stage.heard += 1
        curve = metrics.get("reward", metrics.get("loss"))
        if curve is not None and math.isfinite(curve):
            stage.curve = [*stage.curve, curve][-_SPARKS:]
        if not self._live:
            numbers = "  ".join(f"{label} {value}" for label, value in _glance(metrics))
            where = f"[{stage.place}] {stage.name} step {step}/{stage.total_steps}"
            self._say(f"{where}  {numbers}  {_left(stage)}")

    def progress(self, done: int, total: int, what: str) -> None:
        stage = self._current()
        if stage.inner is not None and (stage.inner[2] != what or done < stage.inner[0]):
            stage.quarter = 0  # something else is counted now, or the next of its kind
        stage.inner = (done, total, what)
        quarter = 4 * done // total if total else 4
        # A log wants a few lines an evaluation, and none between the steps of training, which have their own.
        between = stage.heard > 0 and stage.step < stage.total_steps
        if not self._live and not between and quarter > stage.quarter:
            stage.quarter = quarter
            self._say(f"[{stage.place}] {stage.name} {done}/{total} {what}")

    def end_stage(self, summary: str) -> None:
        stage = self._current()
        self._stop_live()
        took = duration(monotonic() - stage.began)
        line = Text.assemble(
            ("✓ ", "green"), (f"[{stage.place}] {stage.name}", "bold"), f"  {summary}  ", (f"({took})", "dim")
        )
        self._console.print(line, soft_wrap=True)

    def note(self, text: str) -> None:
        self._say(text)

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _current(self) -> _Stage:
        if self._stage is None:
            raise RuntimeError("begin_stage comes first")
        return self._stage

    def _stop_live(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def _panel(self) -> RenderableType:
        stage = self._current()
        rows: list[RenderableType] = []
        if stage.total_steps:
            label = f"step {stage.step} of {stage.total_steps}"
            rows.append(_bar(label, stage.step, stage.total_steps, _left(stage)))
        if stage.inner:
            done, total, what = stage.inner
            right = "" if stage.total_steps else _elapsed(stage)
            rows.append(_bar(f"{done} of {total} {what}", done, total, right))
        if stage.metrics:
            rows.append(_numbers(stage))
        if not rows:
            rows.append(Text(f"loading  {_elapsed(stage)}", style="dim"))
        title = Text.assemble((stage.name, "bold"), f" ({stage.kind})  stage {stage.place}")
        width = min(100, self._console.width)
        return Panel(Group(*rows), title=title, title_align="left", border_style="dim", width=width)


def _glance(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    return [(label, format(metrics[name], spec)) for name, (label, spec) in SHOWN.items() if name in metrics]


def _left(stage: _Stage) -> str:
    seconds = stage.seconds_left
    return "" if seconds is None else f"{duration(seconds)} left"


def _elapsed(stage: _Stage) -> str:
    return duration(monotonic() - stage.began)


def _bar(label: str, done: int, total: int, right: str) -> Table:
    row = Table.grid(padding=(0, 2), expand=True)
    row.add_column(min_width=24)
    row.add_column(ratio=1)
    row.add_column(justify="right", min_width=12)
    row.add_row(label, ProgressBar(total=total, completed=done), Text(right, style="dim"))
    return row


def _numbers(stage: _Stage) -> Table:
    pairs = _glance(stage.metrics)
    traced = "reward" if "reward" in stage.metrics else "loss"
    grid = Table.grid(padding=(0, 2))
    grid.add_row(*(Text(label, style="dim") for label, _ in pairs), Text(f"{traced} so far", style="dim"))
    grid.add_row(*(Text(value, style="bold") for _, value in pairs), Text(sparkline(stage.curve), style="cyan"))
    return grid


def sparkline(values: list[float]) -> str:
    """A curve in one line of text."""
    if not values:
        return ""
    low, high = min(values), max(values)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((value - low) * scale)] for value in values)
