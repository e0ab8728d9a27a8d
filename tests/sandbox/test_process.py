"""What is looked at of a program may be gone by then."""

from __future__ import annotations

import os
import subprocess
import sys

from tutelage.sandbox.process import _family


def test_a_family_is_a_process_and_its_descendants() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert {os.getpid(), child.pid} <= set(_family(os.getpid()))
    finally:
        child.communicate(b"\n")


def test_a_process_that_ends_while_its_threads_are_listed_is_no_fault(monkeypatch) -> None:
    def gone(path: object) -> None:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "scandir", gone)  # between seeing the folder and opening it
    assert _family(os.getpid()) == [os.getpid()]
