"""Inputs that no prompt shows: drawn by a task's own generator, answered by its own reference, both in the sandbox."""

from __future__ import annotations

from typing import Any, Final

from tutelage.errors import DataError
from tutelage.sandbox import values
from tutelage.sandbox.base import Limits, Program, Sandbox
from tutelage.sandbox.calls import VALUES, Called, Raised, Returned

_MAKER: Final = """

def _make():
    import random, sys
    out, sys.stdout = sys.stdout, sys.stderr
    generator, reference, name, seed, count = loads(sys.stdin.readline())
    drawing, solving = {"__name__": "generator"}, {"__name__": "reference"}
    exec(compile(generator, "generator.py", "exec"), drawing)
    exec(compile(reference, "reference.py", "exec"), solving)
    made = []
    for number in range(count):
        inputs = dumps(list(drawing["generate"](random.Random(seed + number))))
        try:
            said = {"value": solving[name](*loads(inputs))}
        except Exception as error:
            said = {"raised": type(error).__name__}
        made.append([loads(inputs), said])
    out.write(dumps(made) + "\\n")


_make()
"""


def hidden_cases(
    sandbox: Sandbox, generator: str, reference: str, name: str, seed: int, count: int, limits: Limits
) -> list[tuple[list[Any], Called]]:
    """Inputs and what the reference says to each.

    Args:
        generator: a source with `generate(random)`, which is given a `random.Random` and returns the arguments.
        reference: a source with a function `name` that is right.

    Raises:
        DataError: one of the two fails.
        SandboxError: the sandbox itself failed.
    """
    asked = values.dumps([generator, reference, name, seed, count]).encode() + b"\n"
    finished = sandbox.run(Program(VALUES + _MAKER, asked), limits)
    if not finished.fine:
        said = finished.stderr.decode(errors="replace").strip()[-200:]
        raise DataError(f"its generator or its reference fails ({finished.stopped or finished.exit_code}): {said}")
    made = values.loads(finished.stdout)
    return [(inputs, Returned(said["value"]) if "value" in said else Raised(said["raised"])) for inputs, said in made]
