"""What the rewards that compare with a gold answer share: where the sample's answer and the gold one are found."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from tutelage.rewards.base import Reward
from tutelage.types import Prompt, Sample

Tag = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]


class AnswerReward(Reward):
    """A reward that compares the sample's answer with the prompt's gold answer."""

    tag: Tag | None = None  # "answer": only what stands in the last <answer>...</answer> counts

    def demonstrate(self, answer: str) -> str:
        return answer if self.tag is None else f"<{self.tag}>{answer}</{self.tag}>"

    def answer_of(self, sample: Sample) -> str | None:
        """The part of the text that is the answer, or None where the tag is missing."""
        if self.tag is None:
            return sample.text
        _, opened, rest = sample.text.rpartition(f"<{self.tag}>")
        inside, closed, _ = rest.partition(f"</{self.tag}>")
        return inside if opened and closed else None

    def reading(self, sample: Sample) -> Any:
        """The sample's answer as it is compared; None where it gives none."""
        return (self.answer_of(sample) or "").strip() or None

    def agree(self, one: Any, other: Any) -> bool:
        """Are two readings the same answer, neither of which is known to be right?"""
        return one == other

    def gold_of(self, prompt: Prompt) -> str:
        """The prompt's gold answer. Raises ValueError where it has none."""
        if prompt.answer is None:
            raise ValueError(f"prompt {prompt.id!r} has no gold answer, which the reward '{self.type}' compares with")
        return prompt.answer
