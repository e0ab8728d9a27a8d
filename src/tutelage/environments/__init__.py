"""What a policy is asked: questions with their own score, in two splits that share none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tutelage.config import build
from tutelage.environments.arithmetic import Arithmetic
from tutelage.environments.audit import gold_failures, overlap
from tutelage.environments.base import Environment
from tutelage.environments.gym import ReasoningGym
from tutelage.environments.questions import Questions
from tutelage.environments.verdicts import Verdicts

ENVIRONMENTS: Final[Mapping[str, type[Environment]]] = {
    "arithmetic": Arithmetic,
    "questions": Questions,
    "reasoning-gym": ReasoningGym,
    "verdicts": Verdicts,
}


def build_environment(table: object, where: str) -> Environment:
    """The environment that a recipe's table declares. Raises ConfigError that names the key and the remedy."""
    environment = build(table, ENVIRONMENTS, Environment, where)
    environment.check(where)
    return environment


__all__ = [
    "ENVIRONMENTS",
    "Arithmetic",
    "Environment",
    "Questions",
    "ReasoningGym",
    "Verdicts",
    "build_environment",
    "gold_failures",
    "overlap",
]
