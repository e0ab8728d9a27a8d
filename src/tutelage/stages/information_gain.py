"""The reward `information-gain`: how much likelier a thought makes what follows in the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import PositiveInt, PrivateAttr

from tutelage.config import Sampling
from tutelage.data.chat import render_prompt
from tutelage.models import Policy
from tutelage.rewards import Reward
from tutelage.stages.thoughts import check_contexts, check_thoughts, predicted, rows_after_thoughts, rows_of_contexts
from tutelage.types import Group, Prompt, Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class InformationGain(Reward):
    """log policy(next tokens | context, thought) - log reference(next tokens | context), in nats.

    Hatamizadeh et al., 2025, *RLP: Reinforcement as a Pretraining Objective* (2510.01265). The policy is the one being
    trained, as it is when the step's thoughts are written; the reference is the stage's, which follows the policy
    slowly (`reference = { ema = 0.999 }`) and sees no thought. A number like any other reward: its gradient is that of
    the thought's own tokens alone. It needs no right answer, so any text will do.

    The thought is the sample's very tokens, without its stop string or end token; then come the tokens of `closing`,
    then the next tokens of the text. Log-probabilities are the models' own, whatever `sampling` is.
    """

    isolated: ClassVar[bool] = False  # it shares the learner's device
    together: ClassVar[bool] = True  # many short sequences go through it at once

    type: str = "information-gain"
    horizon: PositiveInt = 1  # next tokens; 1 in the paper
    closing: str = "</think>"
    tokens_per_microbatch: PositiveInt = 4096
    _policy: Policy = PrivateAttr()
    _reference: Policy = PrivateAttr()

    def between(self, policy: Policy, reference: Policy) -> InformationGain:
        """The same for these two, which may change from step to step."""
        ready = self.model_copy()
        ready._policy, ready._reference = policy, reference
        return ready

    def check_prompts(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        context: int,
        where: str,
    ) -> None:
        """Raises DataError where prompts are another tokenizer's, or a thought would leave no room for what follows.

        Args:
            context: the longest sequence of the model.
        """
        check_contexts(tokenizer, prompts, self.horizon, context, where)
        check_thoughts(tokenizer, prompts, sampling, self.closing, self.horizon, context, where)

    def score(self, prompt: Prompt, sample: Sample) -> float:
        asked = tuple(render_prompt(self._policy.tokenizer, prompt))
        return self.score_groups([Group(prompt, asked, [sample])])[0][0]

    def score_groups(self, groups: Sequence[Group]) -> list[list[float]]:
        after = rows_after_thoughts(self._policy.tokenizer, groups, self.closing, self.horizon)
        without = rows_of_contexts([group.prompt for group in groups], self.horizon)
        told = iter(predicted(self._policy, after, self.tokens_per_microbatch))
        expected = predicted(self._reference, without, self.tokens_per_microbatch)
        return [
            [next(told)[0] - baseline for _ in group.samples]
            for group, (baseline, _) in zip(groups, expected, strict=True)
        ]
