"""Models that a recipe names, a stage's or a folder's: refused where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tutelage.config import Stage, nearest
from tutelage.errors import ConfigError


def refuse_unknown_models(names: Sequence[str], earlier: Sequence[Stage], where: str) -> None:
    """Raises ConfigError for a reward model that neither a stage before this one makes nor is a folder."""
    made = [stage.name for stage in earlier if stage.type == "reward-model"]
    for name in names:
        _refuse_unknown(name, made, where, "a reward-model stage before this one")


def refuse_unknown_policy(name: str, known: Sequence[str], where: str) -> None:
    """Raises ConfigError for a policy that is neither one of those known nor a folder."""
    _refuse_unknown(name, known, where, "a stage before this one that leaves a policy")


def _refuse_unknown(name: str, known: Sequence[str], where: str, what: str) -> None:
    if name not in known and not is_model_folder(name):
        raise ConfigError(f"{where}: '{name}' is neither {what} nor a model's folder: {nearest(name, known)}")


def is_model_folder(name: str) -> bool:
    """Is it the path of a model, not a name?"""
    return (Path(name) / "config.json").is_file()
