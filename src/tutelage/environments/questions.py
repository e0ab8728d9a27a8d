"""The environment `questions`: questions with gold answers from a file, the hub or Python."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from random import Random
from typing import Annotated

from pydantic import Field

from tutelage.config import Table
from tutelage.data import build_prompt_source
from tutelage.environments.audit import question_key
from tutelage.environments.base import Environment
from tutelage.errors import ConfigError
from tutelage.rewards import Reward, TaskReward, build_reward
from tutelage.rewards.base import refuse_idle
from tutelage.seeds import derive_seed
from tutelage.types import Prompt, Split


class Questions(Environment):
    """Questions from a source, for testing from another or from a share of the same.

    A held-out share is drawn by question, so one that stands in the source twice is in one split only. Two sources
    are taken as they are: `environments.overlap` reports what they share.
    """

    type: str = "questions"
    train: Table | None = None  # a source: {type = "jsonl", path = "train.jsonl"}; None: there are only test questions
    test: Table | None = None  # None: a share of the train source is held out
    test_share: Annotated[float, Field(gt=0.0, lt=1.0)] = (
        0.1  # of the different questions, where there is no test source
    )
    seed: int = 0  # of the share's choice
    scorer_table: Annotated[Table | str, Field(alias="scorer")] = "numeric"  # a reward's table, or just its type

    def check(self, where: str) -> None:
        if self.train is not None:
            build_prompt_source(self.train, f"{where}.train")
        elif self.test is None:
            raise ConfigError(f"{where}.train: name a source of questions, or a test source for an evaluation alone")
        if self.test is not None:
            build_prompt_source(self.test, f"{where}.test")
            if "test_share" in self.model_fields_set:
                raise ConfigError(f"{where}.test_share: has no use beside a test source; leave one of them out")
        scorer = self._scorer(f"{where}.scorer")
        refuse_idle(scorer, f"{where}.scorer")
        if isinstance(scorer, TaskReward):
            raise ConfigError(f"{where}.scorer: 'task' stands for this very scorer; name another reward")

    def prompts(self, split: Split) -> Sequence[Prompt]:
        if split == "train" and self.train is None:
            raise ConfigError("train: this environment has test questions only; name a source to train on")
        return self._splits[split]

    def scorer(self) -> Reward:
        return self._scorer("scorer")

    def _scorer(self, where: str) -> Reward:
        table = {"type": self.scorer_table} if isinstance(self.scorer_table, str) else self.scorer_table
        return build_reward(table, where)

    @cached_property
    def _splits(self) -> dict[Split, list[Prompt]]:
        train = [] if self.train is None else build_prompt_source(self.train, "train").load()
        if self.test is not None:
            return {"train": train, "test": build_prompt_source(self.test, "test").load()}
        questions = sorted({question_key(prompt) for prompt in train})
        count = max(1, round(self.test_share * len(questions)))
        if count == len(questions):
            raise ConfigError(f"test_share: {len(questions)} different questions cannot be split; give a test source")
        held_out = set(Random(derive_seed(self.seed, "questions")).sample(questions, count))
        return {
            "train": [prompt for prompt in train if question_key(prompt) not in held_out],
            "test": [prompt for prompt in train if question_key(prompt) in held_out],
        }
