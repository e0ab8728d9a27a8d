"""What a stage's outcome depends on: its config, what it reads, its data, and the code of its method."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from tutelage.config import Part, Recipe, parts_of
from tutelage.stages import Plan

_HOUSE = Path(__file__).resolve().parent.parent
_CORE = ("functional", "kernels", "training", "models", "engines", "rollouts", "data")
"""Rooms that every method goes through."""
_OF_A_RUN = ("seed", "compute", "compile_layers", "activation_checkpointing", "engine")
_WITHOUT_EFFECT = {"require", "keep", "checkpoints", "guards", "record"}
"""Keys of a stage that change nothing of what it leaves; or, as guards that roll back, only what saved it."""


@dataclass(frozen=True, slots=True)
class Key:
    """Equal keys, equal outcome."""

    config: Mapping[str, Any]
    inputs: Mapping[str, str]  # digests of the artefacts that it reads, by name
    data: str  # digest of the rows that it was planned with
    code: str  # digest of the sources of its method, a user's own parts among them

    def differences(self, before: Key) -> list[str]:
        """What changed since, in words: most telling first."""
        changed = [
            f"{name} {json.dumps(before.config.get(name))} -> {json.dumps(self.config.get(name))}"
            for name in sorted({*self.config, *before.config})
            if self.config.get(name) != before.config.get(name)
        ]
        changed += [
            f"its input '{name}' is another ({_short(before.inputs.get(name))} -> {_short(self.inputs.get(name))})"
            for name in sorted({*self.inputs, *before.inputs})
            if self.inputs.get(name) != before.inputs.get(name)
        ]
        if self.data != before.data:
            changed.append("its data are others")
        if self.code != before.code:
            changed.append("the code of its method is another")
        return changed

    def contradicts(self, before: Key) -> bool:
        """Is anything but the code another? What the version that wrote `before` did not know is as it always was."""
        known = {_root(name) for name in before.config}
        config = {name: value for name, value in self.config.items() if _root(name) in known}
        inputs = {name: digest for name, digest in self.inputs.items() if name in before.inputs}
        return (config, inputs, self.data) != (before.config, before.inputs, before.data)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def key_of(plan: Plan, recipe: Recipe, inputs: Mapping[str, str]) -> Key:
    """The key of a planned stage.

    Args:
        inputs: the digests of what it reads, by name.
    """
    stage = plan.stage
    config = {name: value for name, value in _flat(stage.model_dump(mode="json")) if _root(name) not in _WITHOUT_EFFECT}
    config |= {f"recipe.{name}": getattr(recipe, name) for name in _OF_A_RUN}
    environment = getattr(stage, "environment", None)
    if environment is not None:
        table = recipe.environments[environment]
        config |= {f"environment.{name}": value for name, value in _flat(table)}
        for part in parts_of(table):
            config |= {f"environments.{part}.{name}": value for name, value in _flat(recipe.environments[part])}
    plain = json.loads(json.dumps(config, default=str))
    return Key(plain, dict(inputs), _digest_of_data(plan), _digest_of_code(plan))


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested tables by their dotted names."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(cast(Mapping[str, Any], value), f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"


def _root(name: str) -> str:
    return name.partition(".")[0]


def _digest_of_data(plan: Plan) -> str:
    """Of all prompts, conversations, judged answers and texts that the plan has read."""
    hashed = hashlib.sha256()
    for value in _values(plan):
        rows = cast(Sequence[object], value) if isinstance(value, Sequence) else ()
        if rows and (is_dataclass(rows[0]) or isinstance(rows[0], str)):
            for row in rows:
                hashed.update(repr(row).encode("utf-8", "surrogatepass"))
    return hashed.hexdigest()


def _is_row(value: object) -> bool:
    return is_dataclass(value) or isinstance(value, str)


def _digest_of_code(plan: Plan) -> str:
    files = {path for room in _CORE for path in _sources(_HOUSE / room)}
    own = [_HOUSE / "stages" / f"{plan.stage.type.replace('-', '_')}.py"]
    files |= _with_imported([*own, *(path for part in _parts(plan) for path in _sources_of_part(part))])
    hashed = hashlib.sha256()
    for path in sorted(files):
        hashed.update(path.name.encode() + _digest(path).encode())
    return hashed.hexdigest()


def _sources(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix in (".py", ".cpp"))


def _with_imported(paths: Sequence[Path]) -> set[Path]:
    """The files and the modules of ours that they import by name, and so on; what a room offers as a whole is not."""
    waiting, found = list(paths), set[Path]()
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        named = re.findall(r"^from tutelage\.([\w.]+) import", path.read_text(encoding="utf-8"), re.MULTILINE)
        modules = (_HOUSE.joinpath(*name.split(".")).with_suffix(".py") for name in named)
        waiting += [module for module in modules if module.is_file()]
    return found


def _parts(plan: Plan) -> Iterator[Part]:
    """The parts of a plan that have methods: algorithm, rewards, environment, loss; and those that they hold."""
    for value in _values(plan):
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
    """The module of its class and, where it names a function as `module:name`, that one's."""
    named = [value for value in part.model_dump().values() if isinstance(value, str)]
    modules = [type(part).__module__, *(text.partition(":")[0] for text in named if re.fullmatch(r"[\w.]+:\w+", text))]
    for module in modules:
        found = importlib.util.find_spec(module)
        if found is not None and found.origin is not None and Path(found.origin).is_file():
            yield Path(found.origin)


def _values(plan: Plan) -> list[Any]:
    return [getattr(plan, field.name) for field in fields(plan)]


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
