"""Tells how much was fuzzed, and how slow the slowest input was."""

from __future__ import annotations

import pytest

from tests.fuzz.judged import INPUTS, SLOWEST


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if INPUTS:
        slowest = max(SLOWEST, key=lambda name: SLOWEST[name])
        terminalreporter.write_line(
            f"fuzzed: {sum(INPUTS.values())} inputs of {len(INPUTS)} kinds; the slowest took {SLOWEST[slowest]:.3f} s "
            f"({slowest})"
        )
