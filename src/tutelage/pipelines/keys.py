"""What a stage's outcome depends on: its config, what it reads, its data, and the code of its method."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from tutelage.config import Recipe, parts_of
from tutelage.pipelines.sources import sources_of
from tutelage.stages import Plan

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
    for field in fields(plan):
        value = getattr(plan, field.name)
        rows = cast(Sequence[object], value) if isinstance(value, Sequence) else ()
        if rows and _is_row(rows[0]):
            hashed.update(f"{field.name}: {len(rows)}".encode())
            for row in rows:
                hashed.update(repr(row).encode("utf-8", "surrogatepass"))
    return hashed.hexdigest()


def _is_row(value: object) -> bool:
    return is_dataclass(value) or isinstance(value, str)


def _digest_of_code(plan: Plan) -> str:
    hashed = hashlib.sha256()
    for path in sorted(sources_of(plan)):
        hashed.update(path.name.encode() + _digest(path).encode())
    return hashed.hexdigest()


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
