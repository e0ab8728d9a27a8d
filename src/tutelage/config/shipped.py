"""The recipes and suites that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tutelage.config.part import nearest
from tutelage.errors import ConfigError

Shipped = Literal["recipes", "suites"]


def shipped_recipes() -> dict[str, Path]:
    """Name to file. Installed they lie in the package, in a checkout beside `src`."""
    return _shipped("recipes")


def shipped_suites() -> dict[str, Path]:
    """The same of suites."""
    return _shipped("suites")


def find_recipe(name: str) -> Path:
    """A recipe's file: the path itself, or the shipped recipe of that name. Raises ConfigError."""
    return _find(name, "recipe", shipped_recipes())


def find_suite(name: str) -> Path:
    """A suite's file: the path itself, or the shipped suite of that name. Raises ConfigError."""
    return _find(name, "suite", shipped_suites())


def first_comment(path: Path) -> str:
    """What a recipe says of itself: its first line."""
    line = path.read_text(encoding="utf-8").partition("\n")[0]
    return line.removeprefix("#").strip()


def _shipped(kind: Shipped) -> dict[str, Path]:
    package = Path(__file__).resolve().parent.parent
    for folder in (package / kind, package.parent.parent / kind):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return {}


def _find(name: str, what: str, shipped: dict[str, Path]) -> Path:
    path = Path(name)
    if path.suffix == ".toml" or path.exists():
        return path
    if name not in shipped:
        raise ConfigError(f"{name}: neither a file nor a shipped {what}; {nearest(name, list(shipped))}")
    return shipped[name]
