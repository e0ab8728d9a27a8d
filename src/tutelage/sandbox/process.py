"""A contained process as the host sees it: fed, heard, measured and killed. Nothing it does makes the host grow."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

from tutelage.sandbox.base import Answer, Finished, Limits, Program, Stopped

_GLANCE = 0.1  # seconds between two looks at what it has used
_BUSY = 5.0  # times its seconds that a program may take where it waits for a processor
_CHUNK = 1 << 16
_BURIAL = 5.0  # seconds that the kernel may take to end what was killed
_PAGE = os.sysconf("SC_PAGE_SIZE")


def supervise(
    command: Sequence[str],
    program: Program,
    limits: Limits,
    environment: Mapping[str, str],
    pass_fds: Sequence[int] = (),
    folder: str = "/",
) -> Finished:
    """Runs a command to its end or to a limit, and kills what is left of its session then.

    That what leaves its session ends with it is the command's affair.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
        cwd=folder,
        pass_fds=tuple(pass_fds),
        start_new_session=True,
        bufsize=0,
    )
    with suppress(OSError):
        Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")  # should memory be short, this goes first
    talk = _Talk(process, program, limits)
    try:
        talk.hold()
    finally:
        _kill(process)
        talk.bury()
    code = process.returncode
    ended = None if talk.stopped else code if code >= 0 else 128 - code
    return Finished(talk.output["stdout"], talk.output["stderr"], ended, talk.stopped, talk.seconds)


class _Talk:
    """The three streams of a process. With an `answer` each line of its stdout is a question, answered on its stdin."""

    def __init__(self, process: subprocess.Popen[bytes], program: Program, limits: Limits) -> None:
        self.output = {"stdout": b"", "stderr": b""}
        self.stopped: Stopped | None = None
        self._pid, self._limits, self._answer = process.pid, limits, program.answer
        self._stdin = cast(IO[bytes], process.stdin)
        self._to_say = memoryview(program.stdin)
        self._began, self._looked, self._waited = time.monotonic(), 0.0, 0.0
        self._ready = selectors.DefaultSelector()
        for name, stream in (("stdout", process.stdout), ("stderr", process.stderr)):
            os.set_blocking(cast(IO[bytes], stream).fileno(), False)
            self._ready.register(cast(IO[bytes], stream), selectors.EVENT_READ, name)
        os.set_blocking(self._stdin.fileno(), False)
        self._say()

    def hold(self) -> None:
        """Talks until the process has closed both of its streams, or must be stopped."""
        while self._open_streams() and self.stopped is None:
            for key, _ in self._ready.select(_GLANCE):
                if key.data == "stdin":
                    self._say()
                else:
                    self._listen(cast(IO[bytes], key.fileobj), key.data)
            if self._elapsed - self._looked >= _GLANCE and self._open_streams():
                self._looked = self._elapsed
                self._look()

    @property
    def seconds(self) -> float:
        """How long it has taken, less what it waited: for answers, and for a processor that others had."""
        return max(0.0, self._elapsed - self._waited)

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _look(self) -> None:
        """Stops it where it has used up its memory or its time."""
        family = _family(self._pid)
        self._waited = max(self._waited, sum(_waited(one) for one in family))
        if memory_in_use(family, self._limits.memory) > self._limits.memory:
            self.stopped = "memory"
        elif self.seconds >= self._limits.seconds or self._elapsed >= _BUSY * self._limits.seconds:
            self.stopped = "time"

    def bury(self) -> None:
        """Waits until nobody holds the streams any more: then all who had them are dead."""
        self._close_stdin()
        until = time.monotonic() + _BURIAL
        while self._open_streams() and time.monotonic() < until:
            for key, _ in self._ready.select(_GLANCE):
                if not _read(cast(IO[bytes], key.fileobj)):
                    self._forget(cast(IO[bytes], key.fileobj))
        for key in list(self._ready.get_map().values()):
            self._forget(cast(IO[bytes], key.fileobj))
        self._ready.close()

    def _open_streams(self) -> bool:
        return any(key.data != "stdin" for key in self._ready.get_map().values())

    def _listen(self, stream: IO[bytes], name: str) -> None:
        data = _read(stream)
        if data is None:
            return
        if not data:
            self._forget(stream)
            return
        self.output[name] += data
        if name == "stdout" and self._answer is not None:
            self._reply(self._answer)
        if len(self.output[name]) > self._limits.output:
            self.output[name] = self.output[name][: self._limits.output]
            self.stopped = "output"

    def _reply(self, answer: Answer) -> None:
        """Answers every whole line. What the host takes for that is no time of the program's."""
        while b"\n" in self.output["stdout"]:
            line, _, self.output["stdout"] = self.output["stdout"].partition(b"\n")
            began = time.monotonic()
            reply = answer(line.decode("utf-8", errors="replace"))
            self._began += time.monotonic() - began
            self._to_say = memoryview(bytes(self._to_say) + reply.encode() + b"\n")
            self._say()

    def _say(self) -> None:
        """Writes what the pipe takes. All said, and nothing to be answered: the stream is closed."""
        try:
            while self._to_say:
                self._to_say = self._to_say[os.write(self._stdin.fileno(), self._to_say[:_CHUNK]) :]
        except BlockingIOError:
            if self._stdin not in self._ready.get_map():
                self._ready.register(self._stdin, selectors.EVENT_WRITE, "stdin")
            return
        except OSError:  # it does not listen
            self._close_stdin()
            return
        if self._answer is None:
            self._close_stdin()
        elif self._stdin in self._ready.get_map():
            self._ready.unregister(self._stdin)

    def _close_stdin(self) -> None:
        self._to_say = memoryview(b"")
        if not self._stdin.closed:
            if self._stdin in self._ready.get_map():
                self._ready.unregister(self._stdin)
            self._stdin.close()

    def _forget(self, stream: IO[bytes]) -> None:
        self._ready.unregister(stream)
        stream.close()


def _read(stream: IO[bytes]) -> bytes | None:
    """What came; nothing at the end; None where nothing is there yet."""
    try:
        return os.read(stream.fileno(), _CHUNK)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS says so of a dead one
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def memory_in_use(family: Sequence[int], limit: int) -> int:
    """Bytes that processes hold together. What they share is counted once where it would matter."""
    together = sum(_resident(one) for one in family)
    return together if together <= limit else sum(_proportional(one) for one in family)


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        with suppress(OSError):  # it may end at any moment, while its folder is looked at as well
            for children in Path(f"/proc/{one}/task").glob("*/children"):
                with suppress(OSError):
                    waiting += map(int, children.read_text().split())
    return found


def _waited(pid: int) -> float:
    """Seconds that a process was ready to run and did not. 0 where the kernel does not count them."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return _resident(pid)
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) << 10
