"""What a run is made with: the versions of the packages that its numbers come from."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("tutelage", "torch", "transformers", "safetensors", "numpy", "tokenizers")


@cache
def versions() -> dict[str, str]:
    """By package."""
    return {name: _version(name) for name in _PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
