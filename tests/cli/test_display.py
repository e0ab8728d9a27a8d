"""What people see while a run goes on, on a terminal and in a log."""

import io
import re

import pytest
from rich.console import Console

from tutelage.cli import display as module
from tutelage.cli import options
from tutelage.cli.display import Display, sparkline
from tutelage.training.progress import Progress, Quiet, duration

STEP = {"reward": 0.52, "score": 0.5, "entropy": 0.311, "kl": 0.0123, "length": 5.25, "clipped": 0.031,
        "tokens_per_second": 1812.4, "grad_norm": 1.0}  # fmt: skip


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def life(progress: Progress, clock: list[float]) -> None:
    """A run as the stages tell it."""
    progress.begin_stage("before", "evaluate", 1, 2, 0)
    for done in range(0, 201, 10):
        progress.progress(done, 200, "questions")
    progress.progress(1, 2, "wrong ones again")
    clock[0] += 23
    progress.end_stage("accuracy 48 % (41–55)")
    progress.begin_stage("learn", "rl", 2, 2, 30)
    for step in (11, 12):  # resumed from a checkpoint at step 10
        progress.progress(32, 64, "completions")
        clock[0] += 8
        progress.step(step, STEP)
    progress.note("checkpoint written [step 12]")
    progress.end_stage("30 steps")


def test_a_log_has_one_line_a_step(clock):
    out = io.StringIO()
    with Display(Console(file=out, width=60)) as display:
        life(display, clock)
    lines = out.getvalue().splitlines()
    assert lines == [
        "[1/2] before (evaluate)",
        "[1/2] before 50/200 questions",
        "[1/2] before 100/200 questions",
        "[1/2] before 150/200 questions",
        "[1/2] before 200/200 questions",
        "[1/2] before 1/2 wrong ones again",
        "✓ [1/2] before  accuracy 48 % (41–55)  (23 s)",
        "[2/2] learn (rl): 30 steps",
        "[2/2] learn 32/64 completions",  # the first step may take minutes
        "[2/2] learn step 11/30  reward 0.520  score 50.0%  entropy 0.311  KL 0.0123  length 5.2"
        "  clipped 3.1%  tokens/s 1,812  2:32 min left",
        "[2/2] learn step 12/30  reward 0.520  score 50.0%  entropy 0.311  KL 0.0123  length 5.2"
        "  clipped 3.1%  tokens/s 1,812  2:24 min left",
        "checkpoint written [step 12]",
        "✓ [2/2] learn  30 steps  (16 s)",
    ]


def test_a_terminal_has_a_live_panel_that_leaves_only_the_outcome(clock):
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, color_system=None)
    with Display(console) as display:
        life(display, clock)
        display.begin_stage("again", "rl", 2, 2, 30)
        display.step(29, STEP)
        with console.capture() as captured:
            console.print(display._panel())
    panel = captured.get()
    for words in ("again (rl)", "stage 2/2", "step 29 of 30", "left", "reward", "0.520", "1,812"):
        assert words in panel
    assert "accuracy 48 % (41–55)" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())


def test_a_stage_that_loads_says_so(clock):
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with Display(console) as display:
        display.begin_stage("before", "evaluate", 1, 1, 0)
        with console.capture() as captured:
            console.print(display._panel())
    assert "loading" in captured.get()


def test_an_exception_gives_the_terminal_back(clock):
    console = Console(file=io.StringIO(), force_terminal=True)
    display = Display(console)
    display.begin_stage("learn", "rl", 1, 1, 3)
    with pytest.raises(KeyboardInterrupt), display:
        raise KeyboardInterrupt
    assert display._live is None
    assert "\x1b[?25h" in console.file.getvalue()  # the cursor is shown again


def test_metrics_that_are_absent_or_odd(clock):
    out = io.StringIO()
    with Display(Console(file=out)) as display:
        display.begin_stage("sft", "sft", 1, 1, 2)
        display.step(1, {"loss": float("nan")})
        display.step(2, {})
    assert "loss nan" in out.getvalue()
    assert "0 s left" in out.getvalue()


def test_what_is_counted_anew_is_shown_anew(clock):
    out = io.StringIO()
    with Display(Console(file=out)) as display:
        display.begin_stage("prefer", "preference", 1, 1, 5)
        for total in (4, 2):  # the source's answers, then the held-out ones
            for done in range(1, total + 1):
                display.progress(done, total, "answers scored")
    shown = [line.removeprefix("[1/1] prefer ") for line in out.getvalue().splitlines()[1:]]
    assert shown == [f"{count} answers scored" for count in ("1/4", "2/4", "3/4", "4/4", "1/2", "2/2")]


def test_what_comes_before_the_first_step_is_not_its_pace(clock):
    out = io.StringIO()
    with Display(Console(file=out)) as display:
        display.begin_stage("prefer", "preference", 1, 1, 5)
        clock[0] += 900  # the answers are scored by the reference
        clock[0] += 8
        display.step(1, {"loss": 0.7, "step_seconds": 8.0})
        clock[0] += 10
        display.step(2, {"loss": 0.7, "step_seconds": 10.0})
    assert [line.split("  ")[-1] for line in out.getvalue().splitlines()[1:]] == ["32 s left", "27 s left"]


def test_quiet_hears_everything_and_says_nothing(clock, capsys):
    life(Quiet(), clock)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "0 s"), (59.4, "59 s"), (187, "3:07 min"), (7500, "2:05 h")])
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_sparkline():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([]) == ""


def test_what_stands_between_colons_is_printed_as_it_is() -> None:
    with options.console.capture() as printed:
        options.console.print("basic_arithmetic:train:91")
    assert printed.get() == "basic_arithmetic:train:91\n"
