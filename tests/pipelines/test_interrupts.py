"""Asked to end, a run saves its last finished step, says how it goes on, and leaves nobody behind."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.lives import Server, differing, outcome
from tests.pipelines.scenarios import SCENARIOS, write

STAGE = "01-learn"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("interrupts")


@pytest.mark.parametrize(
    ("name", "kind", "steps", "count", "asked", "code", "saved"),
    [
        ("grpo", "sample", 2, 1, signal.SIGTERM, 143, 2),  # the step under way has changed nothing: it is given up
        ("grpo", "sample", 3, 1, signal.SIGINT, 130, 3),  # ... which no checkpoint was due for
        ("self-play", "sample", 3, 1, signal.SIGTERM, 143, 3),
        ("grpo", "update", 2, 2, signal.SIGINT, 130, 3),  # the weights have moved: it is finished
        ("sft", "accumulate", 2, 2, signal.SIGTERM, 143, 3),
        ("control", "update", 4, 2, signal.SIGTERM, 143, 5),
        ("grpo", "step", 7, 1, signal.SIGTERM, 143, 7),  # the last one: what is left is the stage's end
    ],
)
def test_the_last_finished_step_is_saved_and_the_run_goes_on_as_if_nothing_had_been(
    name: str, kind: str, steps: int, count: int, asked: int, code: int, saved: int, folder: Path, lives: Server
) -> None:
    (folder / name).mkdir(exist_ok=True)
    path, whole = write(folder / name, SCENARIOS[name]), folder / name / "whole"
    if not whole.exists():
        lives.live(path, whole)
    out = folder / name / f"{kind}-{steps}"
    said = lives.live(path, out, kill=("learn", kind, steps, count), signals=[asked], ends=code, typed=True)
    words = " ".join(said.split())
    assert f"interrupted; the last finished step is saved; go on with: tutelage resume {out}" in words
    assert ("the step under way is finished and saved first" in words) == (kind != "sample")
    assert "Traceback" not in said
    assert max(path.name for path in (out / "stages" / STAGE / "checkpoints").iterdir()) == f"step-{saved:06d}"
    assert f"goes on after step {saved}" in lives.live(None, out)
    assert differing(outcome(out), outcome(whole)) == []
    assert lives.orphans() == []


@pytest.mark.parametrize(
    ("reward", "kill", "signals"),
    [
        ("leaves_a_child", ("sample", 1, 1), [signal.SIGTERM]),
        ("leaves_a_child", ("update", 1, 1), [signal.SIGTERM]),
        ("leaves_a_child", ("update", 1, 1), [signal.SIGTERM, signal.SIGTERM]),
        ("hangs", ("sample", 0, 1), [signal.SIGTERM]),
    ],
    ids=["sampling", "updating", "twice", "hanging"],
)
def test_nobody_is_left_behind(
    reward: str, kill: tuple[str, int, int], signals: list[int], folder: Path, lives: Server, tmp_path: Path
) -> None:
    function = f'learn.rewards=[{{type="function", function="tests.pipelines.rewards:{reward}"}}]'
    overrides: Any = [function, "learn.reward_timeout=600"]
    (folder / "grpo").mkdir(exist_ok=True)
    path, began = write(folder / "grpo", SCENARIOS["grpo"]), time.monotonic()
    lives.live(path, tmp_path / "run", overrides, kill=("learn", *kill), signals=signals, ends=143, typed=True)
    assert time.monotonic() - began < 120
    assert lives.orphans() == []


def test_a_second_request_ends_at_once(folder: Path, lives: Server, tmp_path: Path) -> None:
    (folder / "grpo").mkdir(exist_ok=True)
    path = write(folder / "grpo", SCENARIOS["grpo"])
    twice = {"signals": [signal.SIGTERM, signal.SIGINT], "ends": 130, "typed": True}
    lives.live(path, tmp_path / "run", kill=("learn", "update", 2, 1), **twice)  # type: ignore[arg-type]
    left = sorted(path.name for path in (tmp_path / "run/stages" / STAGE / "checkpoints").glob("step-*"))
    assert set(left) <= {"step-000000", "step-000002"}  # as whole as the moment left it
    lives.live(None, tmp_path / "run")
