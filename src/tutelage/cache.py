"""Where things are kept that are made or fetched once a machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from tutelage.errors import FetchError


def cache_folder() -> Path:
    """TUTELAGE_CACHE, or ~/.cache/tutelage."""
    return Path(os.environ.get("TUTELAGE_CACHE") or "~/.cache/tutelage").expanduser()


@contextmanager
def fetching_alone(name: str) -> Iterator[None]:
    """Held by the one process that fetches `name`; another that wants the same waits, and then looks again."""
    locks = cache_folder() / "locks"
    try:
        locks.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FetchError(
            f"{locks}: cannot be made: {error.strerror}; set TUTELAGE_CACHE to a folder of yours"
        ) from None
    with FileLock(locks / f"{name.lower().replace('/', '--')}.lock"):
        yield
