"""Killed while it saves or prunes, a full or read-only disk, two processes in one folder: nothing saved is lost."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.pipelines.lives import Server, differing, outcome
from tests.pipelines.scenarios import SCENARIOS, write
from tests.training.test_update import state_of
from tutelage.errors import RunFolderError
from tutelage.pipelines import resume_run
from tutelage.pipelines.folder import RunFolder
from tutelage.training import Quiet, State, load_checkpoint
from tutelage.training.checkpoint import Snapshot, discard_after, write_checkpoint


def at_step(step: int) -> State:
    """A state whose every number says which step it is of."""
    state = state_of()
    for master in state.policy.masters.values():
        master.data.fill_(float(step))
        state.optimizer.state[master] = {"step": torch.tensor(float(step)), "exp_avg": torch.full_like(master, step)}
    state.step = step
    return state


def saves_until_killed(folder: Path, begin: int, keep: int, told: int) -> None:
    """Says the number of each step as soon as its checkpoint is there."""
    for step in range(begin, 10**6):
        write_checkpoint(Snapshot.of(at_step(step), {"metrics": step, "samples": step}), folder, keep)
        os.write(told, step.to_bytes(4, "big"))


@pytest.mark.parametrize("keep", [1, 2])
def test_killed_at_any_instant_of_saving_or_pruning_the_newest_checkpoint_is_whole(keep: int, tmp_path: Path) -> None:
    random_ = random.Random(keep)
    newest = lives = 0
    while newest < 50 or lives < 25:
        told, tell = os.pipe()
        child = os.fork()
        if not child:
            try:
                saves_until_killed(tmp_path, newest + 1, keep, tell)
            finally:
                os._exit(1)
        os.close(tell)
        first = os.read(told, 4)  # the first one is there: from now on any instant may be its last
        time.sleep(random_.uniform(0.0, 0.06))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        with os.fdopen(told, "rb") as pipe:
            said = first + pipe.read()
        newest, lives = int.from_bytes(said[-4:], "big"), lives + 1
        state = at_step(0)
        offsets, refused = load_checkpoint(state, tmp_path)
        assert refused == []
        assert newest <= state.step <= newest + 1  # one may be there that it had no time to tell of
        newest = state.step
        assert offsets == {"metrics": newest, "samples": newest}
        for master in state.policy.masters.values():
            assert bool((master == newest).all())
            assert bool((state.optimizer.state[master]["exp_avg"] == newest).all())


def test_killed_while_it_removes_a_checkpoint_none_is_left_in_halves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        write_checkpoint(Snapshot.of(at_step(step), {}), tmp_path, 2)

    def killed(path: Path, **_: object) -> None:
        if path.exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            discard_after(tmp_path, 1)
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-000001"]


def test_a_lock_dies_with_its_holder_whatever_stands_in_the_file(tmp_path: Path) -> None:
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            with RunFolder(tmp_path):
                os.write(tell, b"!")
                time.sleep(600)
        finally:
            os._exit(1)
    assert os.read(told, 1) == b"!"
    for refused in (lambda: RunFolder(tmp_path).__enter__(), lambda: resume_run(tmp_path, Quiet())):
        with pytest.raises(RunFolderError, match=rf"in use by process {child}; wait for it, or choose another --out"):
            refused()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / "lock").read_text() == str(child)  # stale
    with RunFolder(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_a_disk_that_becomes_read_only_is_told_and_costs_no_checkpoint(lives: Server, tmp_path: Path) -> None:
    path = write(tmp_path, SCENARIOS["sft"])
    lives.live(path, tmp_path / "whole")
    folder = tmp_path / "run/stages/01-learn/checkpoints"
    more = {"patches": ["at_once", f"read_only {folder}"], "signals": [signal.SIGUSR1], "typed": True}
    try:
        said = lives.live(path, tmp_path / "run", kill=("learn", "step", 3, 1), ends=2, **more)  # type: ignore[arg-type]
    except AssertionError as error:
        if ": 77\n" in str(error):
            pytest.skip("this process may not mount anything")
        raise
    assert "Read-only file system" in said
    assert "refused" in said
    assert "Traceback" not in said
    kept = sorted(one.name for one in folder.glob("step-*"))
    assert kept == ["step-000002"]
    assert "goes on after step 2" in lives.live(None, tmp_path / "run")
    assert differing(outcome(tmp_path / "run"), outcome(tmp_path / "whole")) == []


@pytest.mark.parametrize("fault", ["EROFS", "ENOTDIR"])
def test_a_folder_that_cannot_be_written_is_told_with_the_remedy(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(Snapshot.of(at_step(1), {}), tmp_path, 2)

    def refuses(self: Path, *_: object, **__: object) -> None:
        raise OSError(getattr(errno, fault), os.strerror(getattr(errno, fault)))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", refuses)
        with pytest.raises(RunFolderError, match=r"step-000002: the checkpoint could not .*`tutelage resume`"):
            write_checkpoint(Snapshot.of(at_step(2), {}), tmp_path, 2)
    state = at_step(0)
    load_checkpoint(state, tmp_path)
    assert state.step == 1


@pytest.mark.parametrize("harm", ["flip", "cut", "missing", "empty"])
@pytest.mark.parametrize("file", ["masters.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_whatever_is_damaged_in_a_checkpoint_the_one_before_serves_and_it_is_said(
    file: str, harm: str, tmp_path: Path
) -> None:
    for step in (1, 2, 3):
        write_checkpoint(Snapshot.of(at_step(step), {"metrics": step}), tmp_path, 3)
    for step in (2, 3):  # both of the newest
        where = tmp_path / f"step-{step:06d}" / file
        data = bytearray(where.read_bytes())
        where.unlink()
        if harm == "flip":
            data[len(data) // 2] ^= 4
        if harm != "missing":
            where.write_bytes({"flip": data, "cut": data[: len(data) // 2], "empty": b""}[harm])
    state = at_step(0)
    offsets, refused = load_checkpoint(state, tmp_path)
    assert (state.step, offsets) == (1, {"metrics": 1})
    assert [line.partition(":")[0] for line in refused] == ["step-000003 refused", "step-000002 refused"]
