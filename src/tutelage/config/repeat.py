"""`type = "repeat"`: a loop of stages, written out before anything else is looked at.

The stages of round k are called NAME-k. What a stage of the loop names is the newest one of that name: this round's
where it comes before, else the last round's; in the first round, where there is no last one, what `first` says
instead. Stages after the loop that say NAME mean the last round's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, cast

from pydantic import Field

from tutelage.config.part import Part, Table, validate
from tutelage.errors import ConfigError

_NAMING: Final = frozenset({"start", "kl_to", "stage", "models", "model", "reference", "by"})
"""Keys whose values may be the names of stages."""


class Repeat(Part):
    """A loop around stages."""

    type: Literal["repeat"]
    name: str
    times: Annotated[int, Field(ge=1, le=100)]
    first: dict[str, str] = Field(default_factory=dict[str, str])  # in round 1, instead of the last round's stage
    stage: Annotated[tuple[Table, ...], Field(min_length=1)]


def unrolled(tables: Sequence[object]) -> list[object]:
    """The stages with every loop written out. Raises ConfigError for a loop that makes no sense."""
    done: list[object] = []
    named: dict[str, str] = {}  # what a stage of a loop is called now
    for place, table in enumerate(tables):
        if isinstance(table, Mapping) and (entry := cast(Table, table)).get("type") == "repeat":
            done += _rounds(validate(Repeat, entry, f"stage[{place}]"), named, f"stage[{place}]")
        else:
            done.append(_renamed(cast(object, table), named))
    return done


def _rounds(loop: Repeat, named: dict[str, str], where: str) -> list[object]:
    own = [str(table.get("name")) for table in loop.stage]
    for number, table in enumerate(loop.stage):
        if table.get("type") == "repeat":
            raise ConfigError(f"{where}.stage[{number}]: a loop within a loop; write the inner one out")
    if unknown := loop.first.keys() - set(own):
        raise ConfigError(f"{where}.first: no stage of this loop is called {sorted(unknown)}; they are {own}")
    done: list[object] = []
    current = {**named, **loop.first}
    for round_number in range(1, loop.times + 1):
        for table, name in zip(loop.stage, own, strict=True):
            done.append({**cast(Table, _renamed(table, current)), "name": f"{name}-{round_number}"})
            current[name] = f"{name}-{round_number}"
    named |= current
    return done


def _renamed(value: object, named: Mapping[str, str], key: str = "") -> object:
    """The table with the names of a loop's stages replaced by what these are called now."""
    if isinstance(value, str):
        return named.get(value, value) if key in _NAMING else value
    if isinstance(value, Mapping):
        return {name: _renamed(inner, named, name) for name, inner in cast(Mapping[str, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_renamed(inner, named, key) for inner in cast(Sequence[object], value)]
    return value
