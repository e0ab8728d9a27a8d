"""What a policy is asked: questions with their own score, in two splits that share none; and what it plays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tutelage.config import Recipe, build
from tutelage.config import Table as Declared
from tutelage.environments.arithmetic import Arithmetic
from tutelage.environments.audit import gold_failures, overlap
from tutelage.environments.base import Environment
from tutelage.environments.corpus import Corpus
from tutelage.environments.countdown import Countdown
from tutelage.environments.game import OPPONENTS, Game
from tutelage.environments.gym import ReasoningGym
from tutelage.environments.mixture import Mixture
from tutelage.environments.position import Position
from tutelage.environments.programs import Programs
from tutelage.environments.questions import Questions
from tutelage.environments.self_play import Play, SelfPlay, Turn
from tutelage.environments.table import Table, lockstep
from tutelage.environments.verdicts import Verdicts

ENVIRONMENTS: Final[Mapping[str, type[Environment]]] = {
    "arithmetic": Arithmetic,
    "corpus": Corpus,
    "countdown": Countdown,
    "mixture": Mixture,
    "game": Game,
    "programs": Programs,
    "questions": Questions,
    "reasoning-gym": ReasoningGym,
    "verdicts": Verdicts,
}


def build_environment(table: object, where: str, others: Mapping[str, Declared] | None = None) -> Environment:
    """The environment that a recipe's table declares. Raises ConfigError that names the key and the remedy.

    Args:
        others: those that a mixture may name.
    """
    environment = build(table, ENVIRONMENTS, Environment, where)
    if isinstance(environment, Mixture):
        known = others or {}
        environment = environment.resolved(
            known, lambda name: build_environment(known[name], f"environments.{name}"), where
        )
    environment.check(where)
    return environment


def environment_of(recipe: Recipe, name: str) -> Environment:
    """One of a recipe's environments. Raises ConfigError that names the key and the remedy."""
    return build_environment(recipe.environments[name], f"environments.{name}", recipe.environments)


__all__ = [
    "ENVIRONMENTS",
    "OPPONENTS",
    "Arithmetic",
    "Corpus",
    "Countdown",
    "Environment",
    "Game",
    "Mixture",
    "Play",
    "Position",
    "Programs",
    "Questions",
    "ReasoningGym",
    "SelfPlay",
    "Table",
    "Turn",
    "Verdicts",
    "build_environment",
    "environment_of",
    "gold_failures",
    "lockstep",
    "overlap",
]
