"""Prompts, samples and groups for the tests of rewards."""

from tutelage.rewards import RewardSuite, build_rewards
from tutelage.types import Group, Prompt, Sample


def prompt(answer="42", name="p"):
    return Prompt(name, text="What?", answer=answer)


def sample(text, tokens=3, name="p", index=0):
    return Sample(name, index, [1] * tokens, [0.0] * tokens, text, "stop", 0)


def group(*texts, answer="42", name="p"):
    return Group(prompt(answer, name), (1,), [sample(text, 3, name, i) for i, text in enumerate(texts)])


def scored(table, groups, timeout=20.0, workers=2):
    """The samples of the groups, scored by one reward."""
    with RewardSuite(build_rewards([table], "rewards"), timeout, workers) as suite:
        suite.score(groups)
    return [sample for group in groups for sample in group.samples]
