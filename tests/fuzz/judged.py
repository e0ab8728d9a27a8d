"""What fuzzing holds a call to: an answer or an error of ours, within a second. Figures for the whole run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from tutelage.errors import TutelageError

T = TypeVar("T")
INPUTS: Counter[str] = Counter()
SLOWEST: dict[str, float] = {}
LIMIT = 1.0  # seconds; of this process's own time, so that a busy machine fails no test


def judged(name: str, call: Callable[[], T], *own: type[Exception]) -> T | None:
    """What the call gives; None where it refuses with an error of ours, or with one of `own` that its page names."""
    begun = time.process_time()
    try:
        return call()
    except (TutelageError, *own):
        return None
    finally:
        seconds = time.process_time() - begun
        INPUTS[name] += 1
        SLOWEST[name] = max(SLOWEST.get(name, 0.0), seconds)
        assert seconds < LIMIT, f"{name} took {seconds:.2f} s"
