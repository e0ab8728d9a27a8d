"""Metrics survive a kill and a full disk; trackers survive themselves."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import warnings

import pytest

from tests.pipelines.test_refusals import files_of_at_most
from tutelage.errors import MissingExtraError, RunFolderError
from tutelage.training import trackers
from tutelage.training.metrics import MEANINGS, Metrics, meaning
from tutelage.training.trackers import Trackers, check_trackers, open_trackers


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_line_is_in_the_file_at_once(tmp_path):
    metrics = Metrics(tmp_path)
    metrics.write("rl", 1, {"reward": 0.25, "entropy": 1.5})
    (row,) = rows(tmp_path)
    assert row["seconds"] >= 0
    assert {**row, "seconds": 0} == {"stage": "rl", "step": 1, "seconds": 0, "reward": 0.25, "entropy": 1.5}


def test_it_survives_kill_9(tmp_path):
    child = os.fork()
    if not child:
        metrics = Metrics(tmp_path)
        for step in range(1, 4):
            metrics.write("rl", step, {"reward": step})
        os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]


def test_resume_cuts_what_came_after_the_checkpoint(tmp_path):
    metrics = Metrics(tmp_path)
    metrics.write("rl", 1, {"reward": 0.1})
    checkpoint = metrics.offset
    metrics.write("rl", 2, {"reward": 0.2})
    metrics.close()
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"stage": "rl", "st')  # the kill came in the middle of a line

    again = Metrics(tmp_path)
    again.truncate_to(checkpoint)
    again.write("rl", 2, {"reward": 0.3})
    assert [(row["step"], row["reward"]) for row in rows(tmp_path)] == [(1, 0.1), (2, 0.3)]


def test_an_offset_behind_the_end_never_pads_the_file(tmp_path):
    metrics = Metrics(tmp_path)
    metrics.write("rl", 1, {"reward": 0.1})
    metrics.truncate_to(10_000)  # the machine lost power, and the file its last lines
    metrics.write("rl", 2, {"reward": 0.2})
    assert [row["step"] for row in rows(tmp_path)] == [1, 2]


def test_time_goes_on_after_a_resume(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"stage": "a", "step": 1, "seconds": 500.0}\n{"stage": "a", "se')
    metrics = Metrics(tmp_path)
    metrics.truncate_to(44)
    metrics.write("rl", 1, {})
    assert 500 <= rows(tmp_path)[-1]["seconds"] < 510


def test_what_is_not_finite_is_null(tmp_path):
    Metrics(tmp_path).write("rl", 1, {"kl": float("nan"), "loss": float("inf")})
    assert (rows(tmp_path)[0]["kl"], rows(tmp_path)[0]["loss"]) == (None, None)


def test_a_full_disk_warns_once_and_training_goes_on(tmp_path):
    metrics = Metrics(tmp_path)
    metrics._journal._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
    with pytest.warns(RuntimeWarning, match="disk is full"):
        metrics.write("rl", 1, {"reward": 0.1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics.write("rl", 2, {"reward": 0.2})


def test_half_a_line_is_taken_back(tmp_path):
    metrics = Metrics(tmp_path)
    metrics.write("rl", 1, {"reward": 0.1})
    with files_of_at_most(metrics.offset + 9), pytest.warns(RuntimeWarning, match="disk is full"):
        metrics.write("rl", 2, {"reward": 0.2})
    metrics.write("rl", 3, {"reward": 0.3})
    assert [row["step"] for row in rows(tmp_path)] == [1, 3]


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="cannot be written"):
        Metrics(tmp_path / "missing")


def test_meanings_are_sentences():
    for name in MEANINGS:
        assert meaning(name).sentence.endswith(".")
        assert meaning(name).title[0].isupper()
    assert meaning("reward/format").title == "Reward: format"
    assert meaning("my_number").title == "my_number"


def test_an_absent_tracker_names_its_extra(monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"tutelage\[wandb\]"):
        check_trackers(["wandb"])
    with pytest.raises(MissingExtraError, match="tensorboard"):
        open_trackers(["tensorboard"], None)
    check_trackers([])


def test_installed_trackers_pass():
    check_trackers(["tensorboard"])


def test_metrics_reach_wandb_offline_and_trackio_locally(tmp_path):
    """In a process of its own: both leave threads and services behind."""
    code = """
        import sys
        from pathlib import Path
        from tutelage.training.trackers import open_trackers
        trackers = open_trackers(["trackio", "wandb"], Path(sys.argv[1]))
        trackers.log("rl", 1, {"reward": 0.5})
        trackers.close()
    """
    for package in ("trackio", "wandb"):
        pytest.importorskip(package)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    environment = {**clean, "TRACKIO_DIR": str(tmp_path / "trackio"), "HOME": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", textwrap.dedent(code), str(tmp_path)],
        check=True, env=environment, timeout=60,
    )  # fmt: skip
    assert list((tmp_path / "trackio").glob("*.db"))
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_metrics_reach_tensorboard(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    forward = open_trackers(["tensorboard"], tmp_path)
    metrics = Metrics(tmp_path, forward)
    metrics.write("rl", 1, {"reward": 0.25})
    metrics.write("rl", 2, {"reward": 0.5})
    forward.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("rl/reward")] == [(1, 0.25), (2, 0.5)]


class Broken:
    """A tracker that fails where it is told to."""

    def __init__(self, folder):
        if folder.name == "at-init":
            raise RuntimeError("no service")

    def log(self, stage, step, numbers):
        raise RuntimeError("gone")

    def close(self):
        raise RuntimeError("cannot close")


@pytest.mark.parametrize("fails", ["at-init", "at-log"])
def test_a_failing_tracker_is_dropped_with_one_warning(tmp_path, monkeypatch, fails):
    folder = tmp_path / fails
    folder.mkdir()
    monkeypatch.setitem(trackers._KINDS, "wandb", Broken)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        forward = Trackers(["wandb"], folder)
        metrics = Metrics(folder, forward)
        for step in (1, 2, 3):
            metrics.write("rl", step, {"reward": 1.0})
        forward.close()
    assert len([w for w in caught if "wandb failed" in str(w.message)]) == 1
    assert len(rows(folder)) == 3
