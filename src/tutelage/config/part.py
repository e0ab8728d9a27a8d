"""`Part`, the frozen model behind every table of a recipe, and the refusals that name the key and the remedy."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from tutelage.errors import ConfigError

Table = dict[str, Any]


def nearest(word: str, known: Sequence[str]) -> str:
    """`did you mean 'x'?`, or the known words when none is near."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return "known: " + ", ".join(sorted(known)) if known else "none is known here"


class Part(BaseModel):
    """A frozen table of a recipe. Unknown keys are refused with the nearest right one."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: object) -> object:
        if isinstance(data, Mapping):
            table = cast(Mapping[str, object], data)
            known = [field.alias or name for name, field in cls.model_fields.items()]
            for key in table:
                if key not in known:
                    raise PydanticCustomError(
                        "unknown_key",
                        "unknown key '{key}': {hint}",
                        {"key": key, "hint": nearest(key, known)},
                    )
        return cast(object, data)


PartT = TypeVar("PartT", bound=Part)


def validate(kind: type[PartT], table: object, where: str) -> PartT:
    """Builds a `kind` out of a table. Raises ConfigError, one line per mistake, each beginning with its place."""
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        lines: list[str] = []
        for mistake in error.errors():
            place = where
            for step in mistake["loc"]:
                place += f"[{step}]" if isinstance(step, int) else f".{step}" if place else str(step)
            simple = isinstance(mistake["input"], (str, int, float)) and mistake["type"] != "unknown_key"
            simple = simple and mistake["loc"][-1:] not in (("url",), ("key_variable",))  # a password may be in it
            given = f" (given: {mistake['input']!r})" if simple else ""
            lines.append(f"{place}: {mistake['msg']}{given}")
        raise ConfigError("\n".join(lines)) from None


def build(table: object, registry: Mapping[str, type[PartT]], base: type[PartT], where: str) -> PartT:
    """Builds the part that a table's `type` names: one of the registry, or a user's own as `module:Class`.

    Args:
        table: the table as read, for example `{"type": "grpo", "kl": 0.04}`.
        registry: the built-in kinds by their type.
        base: what a user's own class must inherit.
        where: the table's place in the recipe, for messages.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: a table with a 'type' is wanted here (given: {table!r})")
    fields = dict(cast(Mapping[str, object], table))
    name = fields.get("type")
    if not isinstance(name, str):
        raise ConfigError(f"{where}.type: missing; {nearest('', list(registry))}")
    if ":" in name:
        kind = load_object(name, f"{where}.type")
        if not (isinstance(kind, type) and issubclass(kind, base)):
            raise ConfigError(f"{where}.type: '{name}' is not a subclass of {base.__module__}.{base.__name__}")
        return validate(kind, fields, where)
    if name not in registry:
        raise ConfigError(f"{where}.type: unknown '{name}': {nearest(name, list(registry))}")
    return validate(registry[name], fields, where)


def load_object(path: str, where: str) -> object:
    """Imports `module:name`. Raises ConfigError that says which half is missing."""
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"{where}: cannot import '{module_name}' ({error}); it must be installed or lie in the current folder"
        ) from error
    except Exception as error:  # a user's module may raise anything while it is imported
        raise ConfigError(f"{where}: '{module_name}' fails when it is imported: {error!r}") from error
    if not hasattr(module, name):
        functions = [word for word in dir(module) if not word.startswith("_")]
        raise ConfigError(f"{where}: module '{module_name}' has no '{name}': {nearest(name, functions)}")
    return getattr(module, name)
