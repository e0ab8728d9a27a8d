"""The environment `arithmetic`: sums, differences and products, with a held-out split that training never sees."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from pydantic import field_validator

from tutelage.data.arithmetic import ArithmeticQuestions, Question, compute, expression
from tutelage.environments.base import Environment
from tutelage.errors import ConfigError
from tutelage.rewards import NumericReward, Reward
from tutelage.types import Message, Prompt, Split


class Arithmetic(ArithmeticQuestions, Environment):
    """The questions of `ArithmeticQuestions`, asked in words."""

    type: str = "arithmetic"
    question: str = "What is {expression}? Answer with just the number."

    @field_validator("question")
    @classmethod
    def _holds_the_expression(cls, question: str) -> str:
        if "{expression}" not in question:
            raise ValueError("must hold {expression}, which becomes for example '12 + 7'")
        return question

    def check(self, where: str) -> None:
        try:
            self.prompts("train")
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    def prompts(self, split: Split) -> Sequence[Prompt]:
        return _prompts(self)[split]

    def scorer(self) -> Reward:
        return NumericReward()


@lru_cache(maxsize=8)
def _prompts(environment: Arithmetic) -> dict[Split, tuple[Prompt, ...]]:
    return {
        split: tuple(_prompt(environment.question, question) for question in questions)
        for split, questions in environment.splits().items()
    }


def _prompt(wording: str, question: Question) -> Prompt:
    asked = expression(question)
    return Prompt(
        id=f"arithmetic:{asked}",
        messages=(Message("user", wording.replace("{expression}", asked)),),
        answer=str(compute(question)),
    )
