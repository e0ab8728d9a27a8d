"""The reward `implicit`: what each token says of an answer's end, by two language models and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveFloat, PrivateAttr

from tutelage.config import BASE, PreferenceStage, Recipe, Stage
from tutelage.data.chat import render_prompt
from tutelage.data.packing import Row, pack
from tutelage.errors import ConfigError
from tutelage.models import Policy
from tutelage.rewards import Reward
from tutelage.rewards.base import Spread
from tutelage.stages.context import StageRun
from tutelage.stages.named_models import refuse_unknown_policy
from tutelage.types import Group, Prompt, Sample


class ImplicitReward(Reward):
    """beta (log model - log reference) of each token: implicit process rewards. Yuan et al., 2024 (2412.01981).

    The model has learned from right and wrong answers what is right, with its log ratio as the logit: by the preference
    loss `outcome`, or by any other whose reward is beta log model / reference. `beta` is best what it learned with. The
    total of an answer is the log-odds that it is right. Log-probabilities are the models' own, at temperature 1.
    """

    isolated: ClassVar[bool] = False  # it shares the learner's device
    together: ClassVar[bool] = True  # many short answers go through it at once

    type: str = "implicit"
    model: str  # a stage before this one that leaves a policy, or a folder
    reference: str = "base"  # what that stage began with
    beta: PositiveFloat = 0.05  # PRIME's (2502.01456, section 4.1)
    tokens_per_microbatch: Annotated[int, Field(gt=0)] = 4096
    _loaded: tuple[Policy, ...] = PrivateAttr(())

    @property
    def spreads(self) -> bool:
        return True

    def refuse_unknown_model(self, stage: Stage, recipe: Recipe, where: str) -> None:
        """Raises ConfigError for a model that is neither a stage's nor a folder, or that had another reference."""
        for key, name in (("model", self.model), ("reference", self.reference)):
            refuse_unknown_policy(name, recipe.policies_before(stage.name), f"{where}.{key}")
        made = next((one for one in recipe.before(stage.name) if one.name == self.model), None)
        if not isinstance(made, PreferenceStage):
            return
        began = recipe.begins(made) or BASE
        if self.reference != began:
            raise ConfigError(
                f"{where}.reference: '{self.model}' has learned beside '{began}', so what it says is its log ratio to "
                f"that and not to '{self.reference}': set reference = '{began}', or the start of '{self.model}'"
            )

    def loaded(self, run: StageRun) -> ImplicitReward:
        """The same with its models in memory, without masters: neither is trained."""
        ready = self.model_copy()
        ready._loaded = tuple(run.load_policy(model=name).freeze() for name in (self.model, self.reference))
        return ready

    def score(self, prompt: Prompt, sample: Sample) -> Spread:
        return self.score_groups([Group(prompt, (), [sample])])[0][0]

    @torch.no_grad()
    def score_groups(self, groups: Sequence[Group]) -> list[list[Spread]]:
        """What each token of each sample earned; nothing in all for a sample without any."""
        tokenizer = self._loaded[0].tokenizer
        rows = [
            Row(asked, tuple(sample.tokens), number)
            for number, group in enumerate(groups)
            for asked in [tuple(render_prompt(tokenizer, group.prompt))]
            for sample in group.samples
        ]
        longest = max((len(row.context) + len(row.tokens) for row in rows), default=0)
        spreads = [Spread(())] * len(rows)
        for batch in pack(rows, max(longest, self.tokens_per_microbatch)):
            own_A, reference_A = (model.score(batch)[0] for model in self._loaded)
            lengths = [len(rows[index].tokens) for index in batch.rows]
            for index, ratio in zip(batch.rows, (own_A - reference_A).cpu().split(lengths), strict=True):
                spreads[index] = Spread(tuple((self.beta * ratio).tolist()))
        told = iter(spreads)
        return [[next(told) for _ in group.samples] for group in groups]
