"""The view of a run on the terminal, and the commands around reports."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.report.factory import add_sample, append, write_json, write_run
from tutelage.cli.commands import app
from tutelage.cli.watch import printable, serve, view, watch_here
from tutelage.errors import ConfigError, MissingExtraError
from tutelage.report.follow import Follower


def seen_on_a_terminal(folder: Path, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    follower = Follower(folder)
    follower.look()
    console.print(view(follower.seen, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_view_tells_where_the_run_is(tmp_path: Path) -> None:
    write_run(tmp_path, questions=3, steps=2, until="before")
    for step, reward in ((1, 0.2), (2, 0.4), (3, 0.9)):
        append(tmp_path / "metrics.jsonl", {"stage": "learn", "step": step, "reward": reward, "step_seconds": 10.0})
    add_sample(tmp_path, "learn", 3, "p", 0, "6 * 7 = ?", "42", "forty\n\x1b[31mtwo", 1.0)
    append(
        tmp_path / "events.jsonl", {"stage": "learn", "step": 3, "guard": "kl", "action": "warn", "why": "the KL rises"}
    )
    text = seen_on_a_terminal(tmp_path)
    for words in ("quickstart", "learn (rl)", "stage 2/3", "step 3 of 30", "4:30 min left", "reward", "0.900", "▁▃█",
                  "6 * 7 = ?", "forty␤·[31mtwo", "step 3: warning: guards.kl: the KL rises"):  # fmt: skip
        assert words in text, words
    assert "\x1b[31m" not in text
    assert all(len(line) <= 60 for line in seen_on_a_terminal(tmp_path, 60).splitlines())


def test_before_it_begins_and_after_its_end(tmp_path: Path) -> None:
    assert "waiting for a run" in seen_on_a_terminal(tmp_path)
    write_run(tmp_path, questions=3, steps=1)
    assert "finished" in seen_on_a_terminal(tmp_path)
    watch_here(tmp_path, Console(file=io.StringIO()))  # returns: there is nothing more to come


def test_what_a_terminal_would_obey_is_shown() -> None:
    assert printable("a\x1b]0;owned\x07\u202eb\nc") == "a·]0;owned··b␤c"


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port}: cannot listen there"):
            serve(tmp_path, port, Console(file=io.StringIO()))


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    with pytest.raises(MissingExtraError, match=r"tutelage\[watch\]"):
        serve(tmp_path, 0, Console(file=io.StringIO()))


def test_the_commands_write_pages_and_tables(tmp_path: Path) -> None:
    folders = [str(write_run(tmp_path / name, questions=3, steps=2)) for name in ("a", "b")]
    call = CliRunner().invoke
    assert call(app, ["report", folders[0]], catch_exceptions=False).exit_code == 0
    assert "quickstart" in (tmp_path / "a/report.html").read_text()
    both = tmp_path / "both.html"
    assert call(app, ["report", *folders, "--out", str(both)], catch_exceptions=False).exit_code == 0
    assert "side by side" in both.read_text()
    assert call(app, ["export", folders[0]], catch_exceptions=False).exit_code == 0
    assert (tmp_path / "a/export/metrics.csv").read_text().startswith("stage,step,seconds,loss")


def test_looking_leaves_no_trace(tmp_path: Path) -> None:
    write_run(tmp_path, questions=3, steps=2, until="learn")
    write_json(tmp_path / "stages/02-learn/result.json", {})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    seen_on_a_terminal(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert json.loads((tmp_path / "recipe.json").read_text())
