"""The recipes that ship with the package."""

from __future__ import annotations

from pathlib import Path

from tutelage.config.part import nearest
from tutelage.errors import ConfigError


def shipped_recipes() -> dict[str, Path]:
    """Name to file. Installed they lie in the package, in a checkout beside `src`."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "recipes", package.parent.parent / "recipes"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return {}


def find_recipe(name: str) -> Path:
    """A recipe's file: the path itself, or the shipped recipe of that name. Raises ConfigError."""
    path = Path(name)
    if path.suffix == ".toml" or path.exists():
        return path
    shipped = shipped_recipes()
    if name not in shipped:
        raise ConfigError(f"{name}: neither a file nor a shipped recipe; {nearest(name, list(shipped))}")
    return shipped[name]


def first_comment(path: Path) -> str:
    """What a recipe says of itself: its first line."""
    line = path.read_text(encoding="utf-8").partition("\n")[0]
    return line.removeprefix("#").strip()
