"""Where code that a model wrote runs: walls around a process, and a grader that compares from outside. No torch."""

from __future__ import annotations

from tutelage.sandbox.base import Answer, Finished, Limits, Program, Sandbox
from tutelage.sandbox.choice import BACK_ENDS, open_sandbox, permit_unsafe_exec, trusted, unsafe_exec_permitted
from tutelage.sandbox.python_tool import Printed, run_python

__all__ = [
    "BACK_ENDS",
    "Answer",
    "Finished",
    "Limits",
    "Printed",
    "Program",
    "Sandbox",
    "open_sandbox",
    "permit_unsafe_exec",
    "run_python",
    "trusted",
    "unsafe_exec_permitted",
]
