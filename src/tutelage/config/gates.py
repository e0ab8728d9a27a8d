"""`require = "accuracy >= 0.6"`: what a stage's figures must be for the run to go on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator

_GATE: Final = re.compile(r"^\s*(\S.*?)\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*$")
_HOLDS: Final[Mapping[str, Callable[[float, float], bool]]] = {">=": ge, "<=": le, ">": gt, "<": lt}


@dataclass(frozen=True, slots=True)
class Condition:
    """A gate taken apart."""

    figure: str
    sign: str
    limit: float

    def holds(self, value: float) -> bool:
        return _HOLDS[self.sign](value, self.limit)


def condition(gate: str) -> Condition:
    """Takes a gate apart. Raises ValueError where it is none."""
    found = _GATE.match(gate)
    if found is None:
        raise ValueError("write a gate as FIGURE >= NUMBER (or <=, >, <), such as 'accuracy >= 0.6'")
    return Condition(found[1], found[2], float(found[3]))


def _checked(gate: str) -> str:
    condition(gate)
    return gate


def several(value: object) -> object:
    """A single text as a list of one."""
    return (value,) if isinstance(value, str) else value


Gates = Annotated[tuple[Annotated[str, AfterValidator(_checked)], ...], BeforeValidator(several)]
"""One gate, or a list of them."""
