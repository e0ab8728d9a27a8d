"""Runs that die: a server that has loaded everything forks one process for each life of a run, and kills it somewhere.

Nothing is simulated: the process ends by SIGKILL in the middle of what it does, and another goes on with its folder.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tutelage.training import Quiet

TIMES = ("seconds", "_seconds", "per_second", "_gib")  # and what depends on the machine as they do
MARK = "TUTELAGE_TEST_LIVES"  # in the environment of all that a server starts: that server's parent


class Server:
    """The parent's end. A life is `live(...)`; None: it ended by itself, else what it was killed by."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from tests.pipelines.lives import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", MARK: str(os.getpid())},
        )

    def live(
        self,
        recipe: Path | None,
        out: Path,
        overrides: Sequence[str] = (),
        kill: Sequence[object] = (),
        ends: int | None = None,
        **more: object,
    ) -> str:
        """Runs the recipe in `out`, or, without one, resumes what lies there. Returns what it said.

        Args:
            kill: a point of `Killer`, where it is sent `signals`, of which the default is SIGKILL; none: nowhere.
            ends: the exit code that it must end with; None: that of the last signal, or 0.
            more: `signals`; `typed`: as from the command line; `patches`: functions of this module to be called first.
        """
        code, said = self._lived(recipe, out, overrides, kill, more)
        wanted = (-signal.SIGKILL if kill else 0) if ends is None else ends
        assert code == wanted, f"{kill} {more}: {code}\n{said}"
        return said

    def code(self, recipe: Path | None, out: Path) -> int:
        """The exit code, whatever it is: 1 of an exception."""
        return self._lived(recipe, out, (), (), {})[0]

    def _lived(
        self,
        recipe: Path | None,
        out: Path,
        overrides: Sequence[str],
        kill: Sequence[object],
        more: Mapping[str, object],
    ) -> tuple[int, str]:
        asked = {"recipe": recipe and str(recipe), "out": str(out), "overrides": [*overrides], "kill": [*kill], **more}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        return told["code"], told["said"]

    def orphans(self) -> list[str]:
        """The command lines of what lives have left behind, once it has had two seconds to end."""
        own, found = f"{MARK}={os.getpid()}".encode(), list[str]()
        for _ in range(40):
            found = []
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    marked = own in (process / "environ").read_bytes()
                    if marked and int(process.name) not in (os.getpid(), self._process.pid):
                        found.append((process / "cmdline").read_bytes().decode().replace("\0", " "))
            if not found:
                break
            time.sleep(0.05)
        return found

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Killer(Quiet):
    """Dies at the point (stage, kind, steps, count): after so many steps of the stage, at the count-th such event.

    Kinds: "sample": answers have come in; "update": before the optimizer changes the weights; "accumulate": before a
    micro-batch's backward; "step": the step is done and recorded, and its checkpoint is not yet begun; "result",
    "sealed": before and after the manifest of the finished stage.
    """

    def __init__(self, point: Sequence[Any], signals: Sequence[int], say: Callable[[str], None]) -> None:
        self.stage, self.kind, self.steps, self.count = point or ("", "", 0, 0)
        self.signals = signals
        self.now, self.done, self.seen, self.say = "", 0, 0, say
        self._watch()

    def event(self, kind: str) -> None:
        if (self.stage, self.kind, self.steps) == (self.now, kind, self.done):
            self.seen += 1
            if self.seen == self.count:
                for number in self.signals:
                    os.kill(os.getpid(), number)

    def begin_stage(self, name: str, kind: str, index: int, stages: int, total_steps: int) -> None:
        self.now, self.done = name, 0

    def step(self, step: int, metrics: object) -> None:
        self.done = step
        self.event("step")

    def progress(self, done: int, total: int, what: str) -> None:
        if done:
            self.event("sample")

    def note(self, text: str) -> None:
        self.say(text)
        if text.startswith("goes on after step "):
            self.done = int(text.split()[-1])

    def _watch(self) -> None:
        import torch
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        from tutelage.pipelines import run as pipeline

        register_optimizer_step_pre_hook(lambda *_: self.event("update"))
        backward, seal = torch.Tensor.backward, pipeline.seal

        def watched(*arguments: Any, **more: Any) -> None:
            self.event("accumulate")
            backward(*arguments, **more)

        def sealed(*arguments: Any) -> Any:
            self.done = 0
            self.event("result")
            left = seal(*arguments)
            self.event("sealed")
            return left

        torch.Tensor.backward = watched  # type: ignore[method-assign]
        pipeline.seal = sealed


def serve() -> None:
    """The server: a line of JSON in, a fork, a line of JSON out."""
    import torch

    import tests.stages.parity  # noqa: F401
    import tutelage.cli.commands
    import tutelage.pipelines  # noqa: F401

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background it is ignored
    for line in sys.stdin:
        asked = json.loads(line)
        said, heard = os.pipe(), b""
        child = os.fork()
        if not child:
            os.close(said[0])
            _live(asked, said[1])
        os.close(said[1])
        with os.fdopen(said[0], "rb") as pipe:
            heard = pipe.read()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"code": code, "said": heard.decode("utf-8", "replace")}), flush=True)


def _live(asked: dict[str, Any], said: int) -> None:
    """A life, in the forked process; never returns."""
    from tutelage.config import read_recipe
    from tutelage.pipelines import resume_run, run_recipe

    os.set_inheritable(said, False)
    os.dup2(said, 2)
    os.dup2(2, 1)
    code: Any = 0
    try:
        for patch in asked.get("patches", ()):
            name, *arguments = patch.split(" ")
            globals()[name](*arguments)
        signals = asked.get("signals", [signal.SIGKILL])
        killer = Killer(asked["kill"], signals, lambda text: os.write(said, f"{text}\n".encode()) and None)
        if asked.get("typed"):
            _type(asked, killer)
        elif asked["recipe"] is None:
            resume_run(Path(asked["out"]), killer)
        else:
            run_recipe(read_recipe(Path(asked["recipe"]), asked["overrides"]), Path(asked["out"]), killer)
    except SystemExit as left:
        code = left.code or 0
    except BaseException:
        os.write(said, traceback.format_exc().encode())
        code = 1
    sys.stdout.flush()
    os._exit(code)


def _type(asked: dict[str, Any], killer: Killer) -> None:
    """As a user does it. What is displayed is told the killer, too."""
    from tutelage.cli import main
    from tutelage.cli.display import Display

    def both(name: str) -> Callable[..., None]:
        shown = getattr(Display, name)

        def told(self: Display, *arguments: Any) -> None:
            shown(self, *arguments)
            if name != "note" or arguments[0].startswith("goes on"):
                getattr(killer, name)(*arguments)

        return told

    for name in ("begin_stage", "step", "progress", "note"):
        setattr(Display, name, both(name))
    sets = [part for override in asked["overrides"] for part in ("--set", override)]
    words = ["resume", asked["out"]] if asked["recipe"] is None else ["run", asked["recipe"], "--out", asked["out"]]
    sys.argv = ["tutelage", *words, *sets]
    main()


def read_only(path: str) -> None:
    """SIGUSR1 makes the folder read-only, for this process alone. Ends with 77 where that is not allowed."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, remount, no_writing, bind, recursive, private = 0x20000, 32, 1, 4096, 16384, 1 << 18
    if libc.unshare(new_namespace) or libc.mount(None, b"/", None, recursive | private, None):
        os._exit(77)

    def mount(*_: object) -> None:
        place = os.path.realpath(path).encode()
        if libc.mount(place, place, None, bind, None) or libc.mount(
            None, place, None, remount | bind | no_writing, None
        ):
            os._exit(77)

    signal.signal(signal.SIGUSR1, mount)


def slow_writing() -> None:
    """Each checkpoint's tensors are written long after training went on, as on a slow disk."""
    from tutelage.training import checkpoint

    save_file = checkpoint.save_file

    def slow(*arguments: Any) -> None:
        time.sleep(0.1)
        save_file(*arguments)

    checkpoint.save_file = slow


def at_once() -> None:
    """Each checkpoint is written before training goes on."""
    from tutelage.training.saving import CheckpointWriter

    save = CheckpointWriter.save

    def saved(self: CheckpointWriter, offsets: Any) -> None:
        save(self, offsets)
        self.finish()

    CheckpointWriter.save = saved  # type: ignore[method-assign]


def with_first() -> None:
    """Each stage that trains leaves a checkpoint of how it began, too, as `first/step-000000`."""
    from tutelage.stages.context import StageRun
    from tutelage.training.checkpoint import Snapshot, write_checkpoint

    begin = StageRun.begin

    def begun(self: StageRun, state: Any) -> Any:
        if state.step == 0:
            write_checkpoint(Snapshot.of(state, self.start), self.folder / "first", 1)
        return begin(self, state)

    StageRun.begin = begun  # type: ignore[method-assign]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def outcome(out: Path) -> dict[str, Any]:
    """All that a run leaves behind, without what a clock measured: digests of every stage, logs, results."""
    manifests = sorted(out.glob("stages/*/manifest.json"))
    return {
        "artefacts": {path.parent.name: json.loads(path.read_text())["digest"] for path in manifests},
        "metrics": [_timeless(line) for line in lines(out / "metrics.jsonl")],
        "samples": lines(out / "samples.jsonl"),
        "events": lines(out / "events.jsonl"),
        "results": {
            path.parent.name: _timeless(json.loads(path.read_text())) for path in out.glob("stages/*/result.json")
        },
    }


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names of what differs."""
    return [name for name in one if one[name] != other[name]]


def cut_off(out: Path, to: Path, stage: str, step: int) -> Path:
    """A copy of a finished run as it was when a stage had written its checkpoint of that step. Returns that."""
    shutil.copytree(out, to, symlinks=True)
    folder = to / "stages" / stage
    for left in ("manifest.json", "result.json"):
        (folder / left).unlink()
    shutil.rmtree(folder / "model")
    for path in (folder / "checkpoints").iterdir():
        if path.name > f"step-{step:06d}":
            shutil.rmtree(path)
    return folder / f"checkpoints/step-{step:06d}"


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(one) for name, one in value.items() if not name.endswith(TIMES)}
    return value
