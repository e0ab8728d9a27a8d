"""The reward `prediction`: does the text go on as predicted? The environment `corpus` brings it."""

from __future__ import annotations

from typing import ClassVar

from tutelage.rewards.answers import Tag
from tutelage.rewards.base import Reward
from tutelage.rewards.latex import boxed
from tutelage.types import Prompt, Sample


class PredictionReward(Reward):
    r"""1 where the last `\boxed{...}` holds how the text goes on, up to the end of one of its tokens; else 0.

    The prefix matching of RPT (Dong et al., 2506.08007, section 3.2): the bytes of the prediction are some, but not
    none, of the first bytes of the true continuation, and a token ends there. Nothing is trimmed: white space counts.
    What stands before the end of thinking is not read; where thinking does not end, everything is. Braces inside of the
    box must be balanced or escaped. Less than the paper: a prediction beyond the tokens that were kept is wrong.
    """

    isolated: ClassVar[bool] = False

    type: str = "prediction"
    think: Tag = "think"  # thinking ends at </think>

    def demonstrate(self, answer: str) -> str:
        return rf"\boxed{{{answer}}}"

    def score(self, prompt: Prompt, sample: Sample) -> float:
        ends = prompt.meta.get("ends")
        if prompt.answer is None or ends is None:
            raise ValueError(
                f"prompt {prompt.id!r} does not say where the tokens of its answer end, which the reward '{self.type}' "
                "compares with; it is for environments of the type 'corpus'"
            )
        before, ended, after = sample.text.partition(f"</{self.think}>")
        predicted = (boxed(after if ended else before) or "").encode()
        return float(bool(predicted) and prompt.answer.encode().startswith(predicted) and len(predicted) in ends)
