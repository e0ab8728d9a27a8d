"""One paper, one file: its defaults, its credit and its loss, composed out of `functional`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tutelage.algorithms.base import Algorithm
from tutelage.algorithms.dr_grpo import DrGrpo
from tutelage.algorithms.grpo import Grpo
from tutelage.algorithms.reinforce import Reinforce
from tutelage.algorithms.rloo import Rloo
from tutelage.algorithms.supervised import supervised_loss
from tutelage.config import build

ALGORITHMS: Final[Mapping[str, type[Algorithm]]] = {
    "dr_grpo": DrGrpo,
    "grpo": Grpo,
    "reinforce": Reinforce,
    "rloo": Rloo,
}


def build_algorithm(table: object, where: str) -> Algorithm:
    """The algorithm that a recipe's table declares. Raises ConfigError that names the key and the remedy."""
    return build(table, ALGORITHMS, Algorithm, where)


__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "DrGrpo",
    "Grpo",
    "Reinforce",
    "Rloo",
    "build_algorithm",
    "supervised_loss",
]
