"""Labels for the steps of the policy's own answers: how often what it goes on with from there comes out right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from tutelage.config import Sampling, StepLabels
from tutelage.data.answers import render_answer
from tutelage.data.preferences import Judged
from tutelage.data.steps import step_ends, step_texts
from tutelage.rollouts import Beginning
from tutelage.seeds import derive_seed
from tutelage.stages.asking import Asking
from tutelage.types import Group, Sample


@dataclass(frozen=True, slots=True)
class Stepped:
    """An answer in steps, with the label of each; None where nothing that it goes on with could be judged."""

    group: Group
    sample: Sample
    ends: Sequence[int]
    texts: Sequence[str]
    labels: tuple[float, ...] | None = None

    @property
    def judged(self) -> Judged | None:
        """The answer as data, under a name of its own; None where it has no labels."""
        if self.labels is None:
            return None
        prompt = replace(self.group.prompt, id=f"{self.group.prompt.id}/{self.sample.index}")
        return Judged(prompt, tuple(self.texts), self.labels, stepwise=True)


def label_steps(
    asked: Asking, groups: Sequence[Group], settings: StepLabels, sampling: Sampling
) -> tuple[list[Stepped], list[Group]]:
    """The judged answers of the groups with labelled steps, and all that they were gone on with; not yet recorded.

    An answer whose steps, written down as text, would be read as others gets that as its failure.

    Math-Shepherd (2312.08935): from the end of each step but the last the policy goes on so many times, by the answer's
    own tokens; the label is the share that is right (the soft estimate), or whether any is (the hard one). The label of
    the last step is whether the answer itself is right.
    """
    stepped = [one for group in groups for one in _in_steps(asked, group, settings.separator)]
    beginnings = [
        Beginning(
            one.group.prompt,
            one.group.prompt_tokens,
            derive_seed(asked.run.seed, "steps", one.sample.prompt_id, one.sample.index, number),
            tuple(one.sample.tokens[: end + 1]),
            tuple(one.sample.logprobs[: end + 1]),
        )
        for one in stepped
        for number, end in enumerate(one.ends[:-1])
    ]
    continued, _ = asked.rewarded(beginnings, settings.continuations, sampling)
    following = iter(continued)
    return [_labelled(one, [next(following) for _ in one.ends[:-1]], settings) for one in stepped], continued


def _in_steps(asked: Asking, group: Group, separator: str) -> list[Stepped]:
    """The judged answers of a group that have any step, and that can be learned from as text."""
    found: list[Stepped] = []
    for sample in (sample for sample in group.samples if sample.reward is not None):
        ends = step_ends(asked.tokenizer, sample.tokens, separator)
        texts = step_texts(asked.tokenizer, sample.tokens, ends, separator)
        if not ends:
            continue
        # They are data as text, and must be found again in its tokens, which need not be those that were sampled.
        _, written = render_answer(asked.tokenizer, group.prompt, separator.join(texts))
        if (read := len(step_ends(asked.tokenizer, written, separator))) == len(ends):
            found.append(Stepped(group, sample, ends, texts))
        else:
            sample.reward, sample.failure = None, f"its {len(ends)} steps are {read} when they are written down"
    return found


def _labelled(one: Stepped, continued: Sequence[Group], settings: StepLabels) -> Stepped:
    shares = [share_right([sample.reward for sample in group.samples], settings) for group in continued]
    known = [share for share in shares if share is not None]
    if one.sample.reward is None or len(known) < len(shares):
        return one
    return replace(one, labels=(*known, float(one.sample.reward > settings.right_above)))


def share_right(rewards: Sequence[float | None], settings: StepLabels) -> float | None:
    """The share of judged answers that are right, or 1 if any is; None where none could be judged."""
    right = [reward > settings.right_above for reward in rewards if reward is not None]
    if not right:
        return None
    return float(any(right)) if settings.hard else fmean(right)
