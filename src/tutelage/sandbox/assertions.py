"""Tests that assert, run apart from what they test: each call of the tested function becomes a call in a fresh process.

The tests run in a sandbox, too, but in a process of their own. There the name of the function is a stand-in that sends
its arguments to the host and gets back a value of built-in types: no object of the tested code, no `__eq__`, no patched
builtin, no `sys.exit` of it ever is in the process that asserts.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tutelage.sandbox import values
from tutelage.sandbox.base import Limits, Program, Sandbox
from tutelage.sandbox.calls import VALUES, Called, NoAnswer, Raised, Returned, call

_TESTER: Final = '''

class _NoAnswer(BaseException):
    """The tested code gave no answer, which no test can catch."""


def _stand_in(name):
    def function(*arguments, **named):
        said = loads(ask(dumps({"name": name, "arguments": list(arguments), "named": named})))
        if "value" in said:
            return said["value"]
        if "raised" in said:
            import builtins
            kind = getattr(builtins, said["raised"], None)
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                kind = RuntimeError
            raise kind(said["raised"])
        raise _NoAnswer

    function.__name__ = name
    return function


def _run(setup, tests, names, check):
    passed = []
    for test in tests:
        space, code = {"__name__": "tests"}, compile(test, "test.py", "exec")
        exec(compile(setup, "setup.py", "exec"), space)
        if check is None:
            space.update({name: _stand_in(name) for name in names})
        else:
            exec(code, space)
        checking = space["check"] if check is not None else None
        try:  # what fails before this is the tests' own fault
            if checking is None:
                exec(code, space)
            else:
                checking(_stand_in(check))
        except BaseException:
            passed.append(False)
        else:
            passed.append(True)
    ask(dumps({"passed": passed}))


_setup, _tests, _names, _check = loads(ask(dumps({"ready": True})))
_run(_setup, _tests, _names, _check)
'''


@dataclass(frozen=True, slots=True)
class Assertions:
    """Tests of a function as code.

    `tests` are pieces of code that each fail or pass: `assert f(1) == 2`. With `check` they define a function `check`
    that is called with the tested function, the one of that name, as HumanEval's do. `setup` runs before each: imports,
    and what else they need. There the name may have a meaning of its own, such as a reference solution.
    """

    tests: tuple[str, ...]
    setup: str = ""
    names: tuple[str, ...] = ()  # of the tested functions; those that the tests call, where none is given
    check: str | None = None


def passed(sandbox: Sandbox, source: str, assertions: Assertions, limits: Limits, tester: Limits) -> list[bool]:
    """Which of the tests a source passes.

    Args:
        limits: of each call of the tested code.
        tester: of the process that asserts, the calls' time not counted.

    Raises:
        SandboxError: the sandbox itself failed.
        ValueError: the tests themselves do not run to their end.
    """
    names = assertions.names or called_names(assertions)
    session = _Session(sandbox, source, limits, assertions, names)
    finished = sandbox.run(Program(VALUES + _TESTER, b"", session.answer), tester)
    if session.failure is not None:
        raise session.failure
    if session.passed is None:
        said = finished.stderr.decode(errors="replace").strip()[-200:]
        raise ValueError(f"the tests did not run to their end ({finished.stopped or finished.exit_code}): {said}")
    return session.passed


def called_names(assertions: Assertions) -> tuple[str, ...]:
    """The functions that tests call and neither define nor import, nor Python has."""
    tree = ast.parse("\n".join([assertions.setup, *assertions.tests]))
    known = set(dir(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            known.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            known |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            known.add(node.id)
    called = [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return tuple(dict.fromkeys(name for name in called if name not in known))


class _Session:
    """The host's side: answers what the tests ask, each call by a process of its own; the same call once."""

    def __init__(
        self, sandbox: Sandbox, source: str, limits: Limits, assertions: Assertions, names: Sequence[str]
    ) -> None:
        self.passed: list[bool] | None = None
        self.failure: Exception | None = None
        self._sandbox, self._source, self._limits = sandbox, source, limits
        self._told = [assertions.setup, list(assertions.tests), list(names), assertions.check]
        self._known: dict[str, Called] = {}

    def answer(self, line: str) -> str:
        try:
            return values.dumps(self._answered(line, values.loads(line)))
        except Exception as error:  # it belongs to the caller, not to the thread that listens
            self.failure = self.failure or error
            return values.dumps({})

    def _answered(self, line: str, asked: dict[str, Any]) -> Any:
        match asked:
            case {"ready": True}:
                return self._told
            case {"passed": verdicts}:
                self.passed = [bool(verdict) for verdict in verdicts]
                return None
            case _:
                return self._call(line, **asked)

    def _call(self, line: str, name: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        if line not in self._known:
            self._known[line] = call(self._sandbox, self._source, name, arguments, self._limits, named)
        match self._known[line]:
            case Returned(value):
                return {"value": value}
            case Raised(raised):
                return {"raised": raised}
            case NoAnswer():
                return {"none": True}
