"""The source files that a stage's method is made of, a user's own among them."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Final, cast

from tutelage.config import Part
from tutelage.stages import Plan

_HOUSE: Final = Path(__file__).resolve().parent.parent
_CORE: Final = ("functional", "kernels", "training", "models", "engines", "rollouts", "data")
"""Rooms that every method goes through."""
_DECLARED: Final = "config"
"""What this room reads stands in a key by its value."""


def sources_of(plan: Plan) -> set[Path]:
    """The rooms that every method goes through, the stage's own module, its parts', and all that these import."""
    core = {path for room in _CORE for path in (_HOUSE / room).rglob("*") if path.suffix in (".py", ".cpp")}
    own = [_HOUSE / "stages" / f"{plan.stage.type.replace('-', '_')}.py"]
    return core | _with_imported([*own, *(path for part in _parts(plan) for path in _sources_of_part(part))])


def _with_imported(paths: Sequence[Path]) -> set[Path]:
    waiting, found = list(paths), set[Path]()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported(path)
    return found


@cache
def _imported(path: Path) -> tuple[Path, ...]:
    """The files of ours, or beside a user's own, that a file imports from; of what a room offers, where it lies."""
    found: list[Path] = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            found += _files(node.module, [alias.name for alias in node.names], path)
        elif isinstance(node, ast.Import):
            found += [file for alias in node.names for file in _files(alias.name, [], path)]
    return tuple(found)


def _files(module: str, names: Sequence[str], importer: Path) -> list[Path]:
    first, *rest = module.split(".")
    ours = first == _HOUSE.name
    place = (_HOUSE if ours else importer.parent / first).joinpath(*rest)
    door, alone = place / "__init__.py", place.parent / f"{place.name}.py"
    if alone.is_file():
        return [alone]
    if not door.is_file() or (ours and rest[:1] == [_DECLARED]):
        return []
    return [behind for name in names if (behind := _offered(door).get(name)) is not None] if ours else [door]


@cache
def _offered(door: Path) -> Mapping[str, Path]:
    """What a room of ours offers, by name, and the files that it comes from. Lists of all kinds are not followed."""
    found = dict[str, Path]()
    for node in ast.parse(door.read_bytes()).body:
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            file = _HOUSE.joinpath(*node.module.split(".")[1:]).with_suffix(".py")
            found |= {alias.asname or alias.name: file for alias in node.names if file.is_file()}
    return found


def _parts(plan: Plan) -> Iterator[Part]:
    """The parts of a plan that have methods: algorithm, rewards, environment, loss; and those that they hold."""
    for field in fields(plan):
        value = getattr(plan, field.name)
        if value is not plan.stage:
            yield from _within(value)


def _within(value: object) -> Iterator[Part]:
    if isinstance(value, Part):
        yield value
        yield from (part for name in type(value).model_fields for part in _within(getattr(value, name)))
    elif isinstance(value, tuple | Mapping):
        held = cast("tuple[object, ...] | Mapping[str, object]", value)
        yield from (part for entry in (held.values() if isinstance(held, Mapping) else held) for part in _within(entry))


def _sources_of_part(part: Part) -> Iterator[Path]:
    """The module of its class and, where it names a function as `module:name`, that one's: planning has imported it."""
    named = [value for value in part.model_dump().values() if isinstance(value, str)]
    modules = [type(part).__module__, *(text.partition(":")[0] for text in named if re.fullmatch(r"[\w.]+:\w+", text))]
    for module in modules:
        file = getattr(sys.modules.get(module), "__file__", None)
        if file is not None and file.endswith(".py"):
            yield Path(file)
