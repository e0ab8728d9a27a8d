"""A run that was killed at any moment and resumed ends bit for bit as one that was not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.parts import EVALUATE, RL, SFT, recipe_text, tiny_model_folder
from tutelage.training.checkpoint import file_digest

TIMES = ("seconds", "_seconds", "per_second", "_gib")  # and what depends on the machine as they do


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tutelage", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "random"},
    )


def finish(*arguments: str) -> str:
    process = start(*arguments)
    output = process.communicate(timeout=300)[0].decode()
    assert process.returncode == 0, output
    return output


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def outcome(folder: Path) -> dict[str, Any]:
    """All that a run leaves behind, without what a clock measured."""
    metrics = [
        {key: value for key, value in line.items() if not key.endswith(TIMES)}
        for line in lines(folder / "metrics.jsonl")
    ]
    models = sorted(folder.glob("stages/*/model/model.safetensors"))
    result = json.loads((folder / "stages/03-judge/result.json").read_text())
    return {
        "metrics": metrics,
        "samples": lines(folder / "samples.jsonl"),
        "models": [file_digest(path) for path in models],
        "scores": result["scores"],
    }


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    path = folder / "recipe.toml"
    path.write_text(recipe_text(tiny_model_folder(folder / "tiny"), SFT + RL + EVALUATE))
    return path


@pytest.fixture(scope="module")
def uninterrupted(recipe: Path) -> dict[str, Any]:
    folder = recipe.parent / "uninterrupted"
    finish("run", str(recipe), "--out", str(folder))
    return outcome(folder)


def test_a_run_is_complete(uninterrupted: dict[str, Any]) -> None:
    steps = [(line["stage"], line["step"]) for line in uninterrupted["metrics"]]
    assert steps == [("imitate", i + 1) for i in range(9)] + [("reinforce", i + 1) for i in range(9)]
    assert len(uninterrupted["samples"]) == 9 * 6 * 4 + 20 * 2
    assert len(set(uninterrupted["models"])) == 2


# Steps are counted over both training stages: 3 and 5 are in the first one's first and second epoch (7 of 40
# conversations a step), 9 at its end, 12 and 17 in the second, each between two checkpoints or on one.
@pytest.mark.parametrize("kills", [(3,), (9,), (12,), (5, 6, 14, 17)], ids=str)
def test_killed_and_resumed_is_as_if_nothing_had_been(
    recipe: Path, uninterrupted: dict[str, Any], kills: tuple[int, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    command = ("run", str(recipe), "--out", str(folder))
    for steps in kills:
        process = start(*command)
        while process.poll() is None and len(lines_so_far(folder)) < steps:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"
        command = ("resume", str(folder))
    output = finish(*command)
    assert "goes on after step" in output or kills[0] < 2
    assert outcome(folder) == uninterrupted


# Programs that are killed where a clock could not hit: in the middle of the sixth step's sampling, when some groups are
# scored already; and while a thread writes, hashes or renames a checkpoint and training goes on.
SAMPLING = """
from tutelage.stages import collect
plain, steps = collect.roll_out, 0

def roll_out(*arguments, watch, **more):
    global steps
    steps += 1

    def dies(done, tokens):
        if steps == 6 and tokens > 60:
            die()
        watch(done, tokens)

    return plain(*arguments, watch=dies, **more)

collect.roll_out = roll_out
"""
SAVING = """
import re, time
from pathlib import Path
from tutelage.training import checkpoint
plain = checkpoint.{function}

def slow(*arguments, **more):
    if re.search(r"reinforce/checkpoints/[.]?step-000004", str(arguments)):
        while Path(sys.argv[-1], "metrics.jsonl").read_text().count("\\n") < {done}:
            time.sleep(0.01)
        time.sleep(0.3)  # of more training, if that were not waiting
        die()
    return plain(*arguments, **more)

checkpoint.{function} = slow
"""
DYING = """
import os, signal, sys
from tutelage.cli import main

def die():
    os.kill(os.getpid(), signal.SIGKILL)
{where}
sys.argv[1:] = {arguments!r}
main()
"""


@pytest.mark.parametrize(
    ("where", "done", "after"),
    [
        (SAMPLING, 9 + 5, 4),
        (SAVING.format(function="save_file", done=9 + 4), 9 + 4, 2),  # the fifth step needs the tensors to be written
        (SAVING.format(function="file_digest", done=9 + 6), 9 + 6, 2),  # it need not wait; the sixth's checkpoint does
        (SAVING.format(function="_remove", done=9 + 6), 9 + 6, 2),
    ],
    ids=["sampling", "writing", "hashing", "renaming"],
)
def test_killed_in_the_midst_of_sampling_or_saving(
    recipe: Path, uninterrupted: dict[str, Any], where: str, done: int, after: int, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    program = DYING.format(where=where, arguments=["run", str(recipe), "--out", str(folder)])
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert len(lines_so_far(folder)) == done
    assert f"goes on after step {after}" in finish("resume", str(folder))
    assert outcome(folder) == uninterrupted


def test_a_run_that_is_asked_to_end_completes_its_checkpoint(
    recipe: Path, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    asked = "os.kill(os.getpid(), signal.SIGTERM)\n        time.sleep(0.5)"
    where = SAVING.format(function="_remove", done=9 + 5).replace("die()", asked)
    program = DYING.format(where=where, arguments=["run", str(recipe), "--out", str(folder)])
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert ended.returncode == 143, ended.stderr.decode()
    assert f"interrupted; the last finished step is saved; go on with: tutelage resume {folder}" in " ".join(
        ended.stdout.decode().split()
    )
    assert (folder / "stages/02-reinforce/checkpoints/step-000004/manifest.json").is_file()
    on = re.search(r"goes on after step (\d)", finish("resume", str(folder)))
    assert on is not None
    assert int(on[1]) >= 4  # a later one where the step under way had changed something, and was finished
    assert outcome(folder) == uninterrupted


def lines_so_far(folder: Path) -> list[str]:
    path = folder / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def test_resuming_a_finished_run_changes_nothing(recipe: Path, uninterrupted: dict[str, Any]) -> None:
    folder = recipe.parent / "uninterrupted"
    before = {path: path.stat().st_mtime_ns for path in folder.glob("stages/*/model/*")}
    assert finish("resume", str(folder)).count("finished before") == 3
    assert outcome(folder) == uninterrupted
    assert {path: path.stat().st_mtime_ns for path in folder.glob("stages/*/model/*")} == before


def test_another_seed_is_another_run(recipe: Path, uninterrupted: dict[str, Any], tmp_path: Path) -> None:
    finish("run", str(recipe), "--out", str(tmp_path / "other"), "--set", "seed=4")
    other = outcome(tmp_path / "other")
    assert not set(other["models"]) & set(uninterrupted["models"])
    assert other["samples"] != uninterrupted["samples"]
