"""A tool: run this Python program. For whoever writes programs and wants to see what they print."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.sandbox.base import Limits, Program, Sandbox, Stopped
from tutelage.sandbox.choice import open_sandbox


@dataclass(frozen=True, slots=True)
class Printed:
    """What a program printed and how it ended: by itself with an exit code, or at a limit."""

    stdout: str
    stderr: str
    exit_code: int | None
    stopped: Stopped | None

    @property
    def timed_out(self) -> bool:
        return self.stopped == "time"


def run_python(source: str, stdin: str = "", limits: Limits | None = None, sandbox: Sandbox | None = None) -> Printed:
    """Runs a program with the standard library in the sandbox of this machine, in a fresh process.

    Args:
        stdin: what it reads; then the stream ends.
        sandbox: by default the one that `open_sandbox` gives.

    Raises:
        SandboxError: no sandbox holds here, or it failed. What the program does is never an error.
    """
    chosen = sandbox or open_sandbox()
    finished = chosen.run(Program(source, stdin.encode()), limits or Limits())
    stdout, stderr = (text.decode(errors="replace") for text in (finished.stdout, finished.stderr))
    return Printed(stdout, stderr, finished.exit_code, finished.stopped)
