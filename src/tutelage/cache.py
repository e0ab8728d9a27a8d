"""Where things are kept that are made or fetched once a machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """TUTELAGE_CACHE, or ~/.cache/tutelage."""
    return Path(os.environ.get("TUTELAGE_CACHE") or "~/.cache/tutelage").expanduser()
