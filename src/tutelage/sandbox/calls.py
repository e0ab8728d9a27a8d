"""One call of a function that somebody else wrote, in a fresh process: inputs go in, one line comes out, we compare.

The process knows its inputs and nothing else: no expected value, no test, no other call. What it prints is dropped. It
could write the line itself: that is no more than returning a value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tutelage.sandbox import values
from tutelage.sandbox.base import Finished, Limits, Program, Sandbox

VALUES: Final = Path(values.__file__).read_text(encoding="utf-8")
_CALLER: Final = """

def _call():
    import os, sys
    try:
        out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
    except OSError:  # no descriptors to copy in WebAssembly, nor anything that writes to them but through sys
        out = sys.stdout
    sys.stdout = sys.stderr
    source, name, arguments, named = loads(sys.stdin.readline())
    module = type(sys)("answer")
    sys.modules["answer"] = module
    exec(compile(source, "answer.py", "exec"), module.__dict__)
    function = getattr(module, name)
    try:
        said = {"value": function(*arguments, **named)}
    except Exception as error:
        said = {"raised": type(error).__name__}
    out.write(dumps(said) + "\\n")
    out.flush()
    os._exit(0)


_call()
"""


@dataclass(frozen=True, slots=True)
class Returned:
    """What the function returned: a value of built-in types."""

    value: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """The function raised an exception of this name."""

    name: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The process gave no answer that counts: it died, hung, said nothing, or too much."""

    why: str


Called = Returned | Raised | NoAnswer


def call(
    sandbox: Sandbox,
    source: str,
    name: str,
    arguments: Sequence[Any],
    limits: Limits,
    named: Mapping[str, Any] | None = None,
) -> Called:
    """Calls a function of a source with these arguments, in a process of its own.

    Args:
        arguments, named: values of built-in types.

    Raises:
        SandboxError: the sandbox itself failed.
        ValueError: an argument is of another type.
    """
    asked = values.dumps([source, name, list(arguments), dict(named or {})]).encode() + b"\n"
    return _read(sandbox.run(Program(VALUES + _CALLER, asked), limits))


def _read(finished: Finished) -> Called:
    """What a process answered. Exactly one line, of exactly one known form, and exit 0; anything else is none."""
    if finished.stopped is not None:
        return NoAnswer(f"stopped: {finished.stopped}")
    if finished.exit_code != 0:
        return NoAnswer(f"exit code {finished.exit_code}")
    line, newline, rest = finished.stdout.partition(b"\n")
    if not newline or rest:
        return NoAnswer("no line" if not finished.stdout else "not exactly one line")
    try:
        said = values.loads(line)
    except ValueError as error:
        return NoAnswer(f"not a value: {error}")
    match said:
        case {"value": value} if len(said) == 1:
            return Returned(value)
        case {"raised": str(name)} if len(said) == 1:
            return Raised(name)
        case _:
            return NoAnswer("not an answer")
