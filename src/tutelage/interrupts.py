"""Asked to end: what Ctrl-C and SIGTERM do to work that must not be torn. Nothing happens here before `listen`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_asked: int | None = None
_held = False
_last_acts: list[Callable[[], None]] = []


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end."""


def listen() -> None:
    """From now on SIGINT and SIGTERM raise `Interrupted`, at once or where `deferred` ends; a second one ends us.

    A signal that the process was told to ignore, as under nohup, stays ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _heard)


def exit_code() -> int | None:
    """What the shell expects of a process that a signal ended, 128 + its number; None: nobody asked."""
    return None if _asked is None else 128 + _asked


def before_exit(act: Callable[[], None]) -> None:
    """What is to be done even where a second signal ends the process in the midst of everything. It must be quick."""
    _last_acts.append(act)


@contextmanager
def deferred() -> Iterator[None]:
    """Within, a request to end waits for `check`, for `at_once`, or for the end of the block."""
    with _holding(True):
        yield
        check()


@contextmanager
def at_once() -> Iterator[None]:
    """Within, what is under way may be torn, although around it requests are deferred."""
    with _holding(False):
        check()
        yield


def check() -> None:
    """Raises Interrupted where the process was asked to end."""
    if _asked is not None:
        raise Interrupted(signal.Signals(_asked).name)


@contextmanager
def _holding(held: bool) -> Iterator[None]:
    global _held
    before, _held = _held, held
    try:
        yield
    finally:
        _held = before


def _heard(number: int, frame: FrameType | None) -> None:
    global _asked
    if _asked is not None:
        for act in _last_acts:
            act()
        os._exit(128 + number)
    _asked = number
    if not _held:
        check()
    name = signal.Signals(number).name
    os.write(2, f"\n{name}: the step under way is finished and saved first; once more ends at once\n".encode())
