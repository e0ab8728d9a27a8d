"""The score of a reasoning-gym task. It stands here, not by its environment, because workers load this room alone."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field

from tutelage.config import Table, nearest
from tutelage.errors import ConfigError, MissingExtraError
from tutelage.rewards.answers import AnswerReward
from tutelage.types import Prompt, Sample

if TYPE_CHECKING:
    from reasoning_gym.dataset import ProceduralDataset

# Nine of the package's scorers (0.1.25) evaluate the answer as Python, directly or through sympy's parser: what a model
# writes would run. They see only lists of words and numbers, or formulas of known functions; the rest is wrong unread.
_LISTS = re.compile(r"""[\w\s\[\]'",-]*""")
_FORMULAS = re.compile(
    r"(?:[0-9\s.,()+*/^-]|\b(?:[a-zA-Z]|a?(?:sin|cos|tan)h?|sec|csc|cot|exp|log|ln|sqrt|Abs|pi|Integral)\b)*"
)
_EVALUATED: Final[Mapping[str, re.Pattern[str]]] = {
    "binary_matrix": _LISTS,
    "n_queens": _LISTS,
    "spiral_matrix": _LISTS,
    "string_insertion": _LISTS,
    "countdown": _FORMULAS,
    "intermediate_integration": _FORMULAS,
    "polynomial_multiplication": _FORMULAS,
    "puzzle24": _FORMULAS,
    "simple_integration": _FORMULAS,
}


class GymReward(AnswerReward):
    """What reasoning-gym's own scorer of the task says: 1 for right, for many tasks a little for a near miss."""

    type: str = "reasoning-gym"
    task: str
    config: Annotated[Table, Field(default_factory=dict)]

    def check(self, where: str) -> None:
        check_task(self.task, self.config, where)

    def prepare(self) -> None:
        _scorer(self.task, json.dumps(self.config, sort_keys=True))

    def score(self, prompt: Prompt, sample: Sample) -> float:
        entry = prompt.meta.get("entry")
        if entry is None:
            raise ValueError(f"prompt {prompt.id!r} comes from no reasoning-gym environment")
        answer = (self.answer_of(sample) or "").strip()
        harmless = _EVALUATED.get(entry["metadata"]["source_dataset"])  # also where `composite` mixes tasks
        if not answer or (harmless and not harmless.fullmatch(answer)):
            return 0.0
        return _scorer(self.task, json.dumps(self.config, sort_keys=True)).score_answer(answer, entry)


def check_task(task: str, config: Mapping[str, Any], where: str) -> None:
    """Raises MissingExtraError without the package, ConfigError for a task or an option that it does not have."""
    if find_spec("reasoning_gym") is None:
        raise MissingExtraError("reasoning-gym", "reasoning-gym", f"{where}: reasoning-gym")
    from reasoning_gym.factory import DATASETS

    if task not in DATASETS:
        raise ConfigError(f"{where}.task: reasoning-gym has no task '{task}': {nearest(task, list(DATASETS))}")
    known = {field.name for field in dataclasses.fields(DATASETS[task][1])} - {"seed", "size"}
    for key in config:
        if key not in known:
            raise ConfigError(f"{where}.config: unknown key '{key}' for '{task}': {nearest(key, sorted(known))}")
    try:
        generate(task, config, seed=0, size=1)
    except (AssertionError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}.config: '{task}' refuses {dict(config)}: {error}") from None


def generate(task: str, config: Mapping[str, Any], seed: int, size: int) -> ProceduralDataset:
    """The task's data set. Question i is made from seed + i, when it is asked for."""
    from reasoning_gym.composite import DatasetSpec
    from reasoning_gym.factory import create_dataset

    options = dict(config)
    if task == "composite":
        options["datasets"] = [DatasetSpec(**spec) for spec in options.get("datasets", [])]
    return create_dataset(task, seed=seed, size=size, **options)


@lru_cache(maxsize=16)
def _scorer(task: str, config: str) -> ProceduralDataset:
    return generate(task, json.loads(config), seed=0, size=1)
