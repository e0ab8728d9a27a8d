"""The score of a mixture of environments: each prompt's own. It stands here because workers load this room alone."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.rewards.base import Reward, Spread, Told, outcomes
from tutelage.types import Prompt, Sample


class MixedReward(Reward):
    """What the scorer of the environment that a prompt comes from makes of its answers."""

    type: str = "mixture"
    scorers: dict[str, Reward]  # by the name of the part

    @property
    def grouped(self) -> bool:
        return any(scorer.grouped for scorer in self.scorers.values())

    def time_limit(self, prompt: Prompt) -> float | None:
        return self.scorers[prompt.part or ""].time_limit(prompt)

    @property
    def patience(self) -> float:
        return max(scorer.patience for scorer in self.scorers.values())

    def seeded(self, seed: int) -> MixedReward:
        return self.model_copy(update={"scorers": {name: each.seeded(seed) for name, each in self.scorers.items()}})

    def prepare(self) -> None:
        for scorer in self.scorers.values():
            scorer.prepare()

    def score(self, prompt: Prompt, sample: Sample) -> float | Spread:
        return self.scorers[prompt.part or ""].score(prompt, sample)

    def score_group(self, prompt: Prompt, samples: Sequence[Sample]) -> Sequence[Told]:
        return outcomes(self.scorers[prompt.part or ""], prompt, samples)
