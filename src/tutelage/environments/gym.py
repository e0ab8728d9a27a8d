"""The environment `reasoning-gym`: every task of that package, scored by the task's own scorer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated

from pydantic import Field, PositiveInt

from tutelage.config import Table
from tutelage.environments.base import Environment
from tutelage.environments.gym_splits import TRIES, Entry, make_splits
from tutelage.errors import ConfigError
from tutelage.rewards import GymReward, Reward
from tutelage.rewards.answers import Tag
from tutelage.rewards.gym import check_task
from tutelage.seeds import derive_seed
from tutelage.types import Message, Prompt, Split


class ReasoningGym(Environment):
    """Questions made by a task of reasoning-gym, for testing from other seeds than for training.

    Where a task has few different questions, seeds meet again: a test question that training also asks, or that was
    asked already, is left out and another one made.
    """

    type: str = "reasoning-gym"
    task: str
    config: Annotated[Table, Field(default_factory=dict)]  # the task's own options
    size: PositiveInt = 1000  # questions to train on
    test_size: PositiveInt = 200
    seed: int = 0
    instruction: str = ""  # follows each question
    tag: Tag | None = None  # "answer": only what stands in the last <answer>...</answer> counts

    def check(self, where: str) -> None:
        check_task(self.task, self.config, where)

    def prompts(self, split: Split) -> Sequence[Prompt]:
        return self._prompts[split]

    def scorer(self) -> Reward:
        return GymReward(task=self.task, config=self.config, tag=self.tag)

    @cached_property
    def _prompts(self) -> dict[Split, list[Prompt]]:
        seed = derive_seed(self.seed, "reasoning-gym") % 2**30  # numpy, which some tasks seed, wants 32 bits
        splits = make_splits(self.task, self.config, seed, self.size, self.test_size)
        found = len(splits["test"])
        if found < self.test_size:
            raise ConfigError(
                f"reasoning-gym task '{self.task}': {TRIES * self.test_size} tries gave {found} test questions that "
                f"training does not ask, not {self.test_size}: lower size or test_size, or make config harder"
            )
        return {
            split: [self._prompt(f"{self.task}:{split}:{i}", entry) for i, entry in enumerate(entries)]
            for split, entries in splits.items()
        }

    def _prompt(self, name: str, entry: Entry) -> Prompt:
        question = entry["question"] + (f"\n\n{self.instruction}" if self.instruction else "")
        return Prompt(name, (Message("user", question),), answer=_gold(entry), meta={"entry": entry})


def _gold(entry: Entry) -> str | None:
    """The gold answer, or the example of a right one that some tasks give instead."""
    if entry["answer"] is not None:
        return str(entry["answer"])
    for key in ("example_answer", "example_correct_answer", "possible_answer"):
        example = entry["metadata"].get(key)
        if example is not None:
            return example if isinstance(example, str) else json.dumps(example)
    return None
