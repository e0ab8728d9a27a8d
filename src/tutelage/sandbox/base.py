"""What a sandbox is: one program in, what came of it out, within limits. Each back-end is a class with this face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

Stopped = Literal["time", "memory", "output"]
"""Which limit ended a program."""

Answer = Callable[[str], str]
"""What the host says to a line that a program asks with `ask`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use. A run that would use more is killed, or told that there is no more."""

    seconds: float = 5.0  # on the clock, less what it waited for a processor that others had; at most 5 times that
    memory: int = 512 << 20  # bytes, of each process and of all of them together
    processes: int = 32  # and threads
    disk: int = 64 << 20  # bytes in /tmp, the only place to write to
    output: int = 1 << 20  # bytes on stdout, and on stderr


@dataclass(frozen=True, slots=True)
class Program:
    """A Python program. It may `ask` the host, in whose words `asking` is, and reads `stdin` where it does not."""

    source: str
    stdin: bytes = b""
    answer: Answer | None = None  # given: the source may call `ask(line: str) -> str`, which is answered by this


@dataclass(frozen=True, slots=True)
class Finished:
    """What came of a run.

    `exit_code` is None where a limit ended it; 128 + n: a signal did. `seconds` are counted as the limit's.
    """

    stdout: bytes
    stderr: bytes
    exit_code: int | None
    stopped: Stopped | None = None
    seconds: float = 0.0

    @property
    def fine(self) -> bool:
        """Did it end by itself, and without an error?"""
        return self.exit_code == 0


class Sandbox(Protocol):
    """Runs a program in a fresh process of its own that nothing outlives. May be called from several threads."""

    @property
    def name(self) -> str:
        """What it is called in messages and results."""
        ...

    def run(self, program: Program, limits: Limits) -> Finished:
        """Runs it to its end, or to a limit.

        Raises:
            SandboxError: the sandbox itself failed, which says nothing about the program.
        """
        ...
