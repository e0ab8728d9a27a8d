"""What an environment can be held to: its own gold answers are right, and its test questions are not trained on."""

from __future__ import annotations

from tutelage.data.contamination import words_of
from tutelage.environments.base import Environment
from tutelage.rewards import RewardSuite
from tutelage.types import Group, Prompt, Sample, Split


def gold_failures(environment: Environment, split: Split, limit: int | None = None) -> list[tuple[Prompt, str]]:
    """The prompts whose own demonstration the scorer does not give 1, each with the reason.

    Args:
        limit: how many prompts are looked at, from the first on; None: all.
    """
    failures: list[tuple[Prompt, str]] = []
    groups: list[Group] = []
    for prompt in environment.prompts(split)[:limit]:
        try:
            text = environment.demonstration(prompt)
        except ValueError as error:
            failures.append((prompt, str(error)))
        else:
            groups.append(Group(prompt, (), [Sample(prompt.id, 0, [], [], text, "stop", 0)]))
    with RewardSuite([environment.scorer()]) as suite:
        suite.score(groups)
    for group in groups:
        (sample,) = group.samples
        if sample.reward != 1.0:
            failures.append((group.prompt, sample.failure or f"{sample.text!r} scores {sample.reward}"))
    return failures


def overlap(environment: Environment) -> list[Prompt]:
    """The test prompts that training asks too, but for case and white space."""
    trained = {question_key(prompt) for prompt in environment.prompts("train")}
    return [prompt for prompt in environment.prompts("test") if question_key(prompt) in trained]


def question_key(prompt: Prompt) -> str:
    """What a prompt asks, without what makes no other question of it: case, white space, the system's turn."""
    return words_of(asked(prompt))


def asked(prompt: Prompt) -> str:
    """What a prompt asks, without the system's turn."""
    return " ".join([prompt.text or "", *(message.content for message in prompt.messages if message.role != "system")])
