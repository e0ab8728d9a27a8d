"""The reward `local-judge`: what a model on this machine thinks of an answer, or of two. No server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final, Literal

import torch
from pydantic import PositiveInt, PrivateAttr, model_validator

from tutelage.config import Recipe, Sampling, Stage
from tutelage.data.answers import begin_alike, choice_tokens
from tutelage.data.chat import has_template, render_prompt
from tutelage.data.packing import Row, pack
from tutelage.engines import Engine, build_engine
from tutelage.errors import DataError, ModelError
from tutelage.models import Policy, context_length, load_tokenizer
from tutelage.rewards import Reward
from tutelage.rewards.answers import Tag
from tutelage.rewards.base import Fault, Outcome
from tutelage.rewards.judging import Grades, Pairs, Said
from tutelage.rewards.thinking import Reads, judged_of, refuse_idle_tag
from tutelage.rollouts import roll_out
from tutelage.stages.context import StageRun
from tutelage.stages.judged import at_the_end
from tutelage.stages.named_models import refuse_unknown_policy
from tutelage.types import Group, Message, Prompt, Sample

_DIGITS: Final = (0, 9)  # grades of one token each


class LocalJudge(Reward):
    """The reward `judge` by a model on this machine: the same questions, of all answers of a step at once.

    `probability`: the assistant's turn begins with "[[", and what counts is how likely each verdict, or grade, then is
    among all of them: a share instead of a win, or the grade that is expected (Constitutional AI, 2212.08073, section
    4.1, whose judge reads multiple-choice answers so). Both orders of a pair are averaged. `words`: the judge writes
    its reasons, greedily, and its verdict is read as that of the reward `judge`.
    """

    isolated: ClassVar[bool] = False  # it shares the learner's device
    together: ClassVar[bool] = True  # many questions go through it at once

    type: str = "local-judge"
    model: str  # a stage before this one, "base", or a folder
    mode: Literal["pairs", "grade"] = "pairs"
    by: Literal["probability", "words"] = "probability"
    rubric: str | None = None  # what makes an answer good, in words
    reads: Reads = "whole"  # or what follows the end of thinking; without that end, nothing was answered
    think: Tag = "think"  # the tag of thinking
    scale: tuple[int, int] = (1, 9)  # of a grade
    max_tokens: PositiveInt = 512  # of the judge's words
    tokens_per_microbatch: PositiveInt = 4096  # for probabilities
    _policy: Policy = PrivateAttr()
    _engine: Engine = PrivateAttr()

    @model_validator(mode="after")
    def _refuse_what_has_no_effect(self) -> LocalJudge:
        for key, other in (("max_tokens", "words"), ("tokens_per_microbatch", "probability")):
            if key in self.model_fields_set and self.by != other:
                raise ValueError(f"{key}: is for by = '{other}'")
        if self.mode == "pairs" and "scale" in self.model_fields_set:
            raise ValueError("scale: is for mode = 'grade'")
        if self.by == "probability" and not _DIGITS[0] <= min(self.scale) <= max(self.scale) <= _DIGITS[1]:
            raise ValueError("scale: probabilities are of single digits; stay between 0 and 9, or take by = 'words'")
        refuse_idle_tag(self.reads, self.model_fields_set)
        _ = self._judging
        return self

    @property
    def _judging(self) -> Pairs | Grades:
        words = self.by == "words"
        return Pairs(self.rubric, unanimous=words) if self.mode == "pairs" else Grades(self.rubric, self.scale)

    def refuse_unknown_model(self, stage: Stage, recipe: Recipe, where: str) -> None:
        """Raises ConfigError for a judge that no stage before this one leaves and that is no folder."""
        refuse_unknown_policy(self.model, recipe.policies_before(stage.name), f"{where}.model")

    def refuse_tokenizer(self, folder: Path, where: str) -> None:
        """Raises ModelError where the judge cannot be asked, or its verdict cannot be read off a single token.

        Args:
            folder: with the judge's tokenizer.
        """
        tokenizer = load_tokenizer(folder)
        if not has_template(tokenizer):
            raise ModelError(
                f"{where}.model: '{self.model}' has no chat template to be asked in; take an instruct model"
            )
        if self.by == "probability":
            try:
                choice_tokens(tokenizer, list(self._judging.choices))
            except (ModelError, DataError) as error:
                raise ModelError(f"{where}.model: {error}; take by = 'words'") from None

    def loaded(self, run: StageRun) -> LocalJudge:
        """The same with its model in memory."""
        return self.holding(run.load_policy(model=self.model), run.recipe.engine)

    def holding(self, policy: Policy, engine: Literal["auto", "native", "transformers"] = "auto") -> LocalJudge:
        """The same with this policy as its model."""
        ready = self.model_copy()
        ready._policy = policy.freeze()
        if self.by == "words":
            ready._engine = build_engine(engine, ready._policy)
        return ready

    def score(self, prompt: Prompt, sample: Sample) -> float:
        (only,) = self.score_groups([Group(prompt, (), [sample])])[0]
        if isinstance(only, Fault):
            raise ValueError(only.reason)
        return only

    def score_groups(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """One score for each sample, or its fault."""
        judging = self._judging
        texts = [[judged_of(sample.text, self.reads, self.think) for sample in group.samples] for group in groups]
        asked = [judging.questions(group.prompt, some) for group, some in zip(groups, texts, strict=True)]
        said = self._by_words(asked) if self.by == "words" else self._by_probability(asked)
        return [judging.scores(group.prompt, some, said) for group, some in zip(groups, texts, strict=True)]

    @torch.no_grad()
    def _by_probability(self, asked: Sequence[Sequence[str]]) -> Said:
        """What is said to each question: the mean of the choices' values under the next token's distribution."""
        choices = self._judging.choices
        beginning, tokens = choice_tokens(self._policy.tokenizer, list(choices))
        values_C = torch.tensor(list(choices.values()), dtype=torch.float64)
        said, places, rows = dict[str, Outcome](), list[str](), list[Row]()
        for number, questions in enumerate(asked):
            rendered, faults = self._fitting(questions, beginning, 0)
            said |= faults
            places += rendered
            rows += _rows(list(rendered.values()), number)
        longest = max((len(row.context) + len(row.tokens) for row in rows), default=0)
        for batch in pack(rows, max(longest, self.tokens_per_microbatch)):
            share_AC = self._policy.choice(self._policy.states_after(batch), tokens).cpu().double()
            for index, value in zip(batch.rows, (share_AC @ values_C).tolist(), strict=True):
                said[places[index]] = value
        return said

    def _by_words(self, asked: Sequence[Sequence[str]]) -> Said:
        """What the judge writes about each question, read."""
        rendered, said = self._fitting([question for questions in asked for question in questions], [], self.max_tokens)
        prompts = [_prompt(question) for question in rendered]
        greedy = Sampling(temperature=0.0, max_new_tokens=self.max_tokens)
        groups = roll_out(self._engine, self._policy.tokenizer, prompts, 1, greedy, seed=0)
        words = [group.samples[0].text for group in groups]
        return {**said, **{question: self._judging.read(text) for question, text in zip(rendered, words, strict=True)}}

    def _fitting(
        self, questions: Sequence[str], beginning: Sequence[int], more: int
    ) -> tuple[dict[str, list[int]], dict[str, Outcome]]:
        """The tokens of each question, its answer's beginning after it; and the faults of those that do not fit."""
        context = context_length(self._policy.module.config)
        rendered = {text: [*render_prompt(self._policy.tokenizer, _prompt(text)), *beginning] for text in questions}
        faults: dict[str, Outcome] = {
            text: Fault(
                f"what '{self.model}' is asked has {len(tokens)} tokens{f', its words up to {more}' if more else ''}, "
                f"and its context holds {context}: shorten the answers (max_new_tokens), or take another judge"
            )
            for text, tokens in rendered.items()
            if len(tokens) + more > context
        }
        return {text: tokens for text, tokens in rendered.items() if text not in faults}, faults


def _prompt(question: str) -> Prompt:
    return Prompt("judge", (Message("user", question),))


def _rows(sequences: Sequence[Sequence[int]], group: int) -> list[Row]:
    """Sequences with what they begin alike as their context, which stands in a batch once; read at their ends."""
    shared = min([begin_alike(sequences), *(len(tokens) - 1 for tokens in sequences)])
    return [at_the_end(Row(tuple(tokens[:shared]), tuple(tokens[shared:]), group)) for tokens in sequences]
