"""Stages that make data for the stages after them, and leave the model as it is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from tutelage.config.gates import several
from tutelage.config.part import Part, Table
from tutelage.config.settings import KeyVariable, Sampling, ServerUrl, Share
from tutelage.config.stage_base import ModelStage, Seconds, Separator
from tutelage.types import Split


class StepLabels(Part):
    """How the steps of an answer are labelled: by how often what the policy goes on with comes out right.

    Math-Shepherd (2312.08935): from the end of each step but the last, so many answers are completed and judged.
    """

    continuations: PositiveInt = 8  # the paper's N
    separator: Separator = "\n"  # what a step ends with
    hard: bool = False  # true: 1 where any of them is right; false: the share that is
    right_above: float = 0.5  # a whole answer's reward above which it is right


class LabelStage(ModelStage):
    """Has the newest policy answer, and judges its answers: judged data for the stages after it. The model stays."""

    type: Literal["label"]
    environment: str
    rewards: tuple[Table, ...]  # the judges
    split: Split = "train"
    questions: PositiveInt | None = None  # None: all
    answers: PositiveInt = 4  # to each question
    steps: StepLabels | None = None  # to label the steps of each answer; None: whole answers
    sampling: Sampling = Sampling()
    reward_timeout: Seconds = 10.0  # for one sample
    max_failed_share: Share = 0.25  # of the samples; above it the run stops


class Principle(Part):
    """What an answer is criticised for, and how it shall be revised; of a sentence alone both requests are made."""

    critique: Annotated[str, Field(min_length=1)]  # the request, as the user makes it
    revision: Annotated[str, Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _of_a_sentence(cls, given: object) -> object:
        if not isinstance(given, str) or not given.strip():
            return given
        return {
            "critique": f"Criticise your last answer by this principle: {given} Say where it falls short, if it does.",
            "revision": f"Rewrite that answer so that it follows the principle: {given} Write the new answer, nothing "
            "else.",
        }


class ReviseStage(ModelStage):
    """Has the newest policy answer, criticise its answers by principles and revise them: data for the stages after it.

    The first phase of Constitutional AI (Bai et al., 2212.08073, section 3), up to the fine-tuning. The model stays.
    """

    type: Literal["revise"]
    environment: str
    principles: Annotated[tuple[Principle, ...], Field(min_length=1)]  # one is drawn for each answer and round
    rounds: PositiveInt = 1  # of critique and revision
    split: Split = "train"
    questions: PositiveInt | None = None  # None: all
    sampling: Sampling = Sampling()


class Teacher(Part):
    """A chat model behind an OpenAI-compatible server, that answers in the policy's place."""

    url: ServerUrl
    model: str
    key_variable: KeyVariable | None = None  # the environment variable that holds the key
    thinking: bool = True  # what the server sends apart as its reasoning stands before the answer, in <think> tags
    request_timeout: Seconds = 600.0
    retries: NonNegativeInt = 5  # of what may pass: a busy server, a broken connection
    parallel: PositiveInt = 16  # requests at a time


Rule = Literal["correct", "best", "margin", "shortest", "first", "diverse"]


class RejectionStage(ModelStage):
    """Rejection sampling: the newest policy or a teacher answers, and rules choose what is worth imitating.

    STaR (Zelikman et al., 2203.14465), RFT (Yuan et al., 2308.01825), and the third stage of DeepSeek-R1 (2501.12948).
    """

    type: Literal["rejection"]
    environment: str
    by: Teacher | None = None  # None: the policy answers
    rewards: tuple[Table, ...] = ({"type": "task"},)
    split: Split = "train"
    questions: PositiveInt | None = None  # None: all
    answers: PositiveInt = 4  # to each question
    choose: Annotated[tuple[Rule, ...], BeforeValidator(several), Field(min_length=1)] = ("correct",)  # one by one
    least: float = 1.0  # an answer of this reward is correct
    margin: PositiveFloat | None = None  # how much more than the others the best answer must be worth
    over: Literal["median", "worst"] | None = None  # of all answers' rewards, by that margin; None: median
    distance: Annotated[float, Field(gt=0.0, le=1.0)] | None = None  # of any two answers that are kept; None: 0.3
    most: PositiveInt | None = None  # answers that are kept of a prompt; None: all that are chosen
    balance: Annotated[float, Field(ge=1.0)] | None = None  # how often the rarest difficulty the commonest may come
    sampling: Sampling = Sampling()
    portion: PositiveInt = 256  # questions that a killed run has to ask again, at most
    reward_timeout: Seconds = 10.0  # for one sample
    max_failed_share: Share = 0.25  # of a portion's samples; above it the run stops

    @model_validator(mode="after")
    def _refuse_what_has_no_effect(self) -> RejectionStage:
        for key, rule in (("margin", "margin"), ("over", "margin"), ("distance", "diverse")):
            if getattr(self, key) is not None and rule not in self.choose:
                raise ValueError(f"{key}: is for choose = '{rule}'")
        if "margin" in self.choose and self.margin is None:
            raise ValueError("margin: choose = 'margin' wants one: by how much reward the best answer must lead")
        for key in ("top_k", "min_p", "stop"):
            if self.by is not None and getattr(self.sampling, key):
                raise ValueError(f"sampling.{key}: a server is not asked for it; leave it out beside by")
        return self


class PositionsStage(ModelStage):
    """Finds the places of texts where the newest policy is unsure of the next token: what a `corpus` asks about."""

    type: Literal["positions"]
    source: Table  # of texts
    test: Table | None = None  # held-out ones; None: a share of the source's
    test_share: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None  # of the texts, without a `test`; None: 0.1
    positions: PositiveInt = 1000  # to train on
    test_positions: PositiveInt = 200
    per_text: PositiveInt | None = None  # no more than so many of one text
    least: NonNegativeFloat = 0.0  # entropy of the next token, in nats
    most: PositiveFloat | None = None
    top: NonNegativeInt = 16  # the entropy is that of so many likeliest tokens (RPT, 2506.08007); 0: of all, exactly
    context: PositiveInt = 512  # tokens of a piece that is looked at by itself; longer texts are cut into several
    min_context: PositiveInt = 16  # tokens before a position
    horizon: PositiveInt = 8  # tokens after it that are kept: so long a prediction can be right
    tokens_per_microbatch: PositiveInt = 4096

    @model_validator(mode="after")
    def _refuse_what_cannot_be(self) -> PositionsStage:
        if self.test is not None and self.test_share is not None:
            raise ValueError("test_share: has no use beside a test source; leave one of them out")
        if self.most is not None and self.most <= self.least:
            raise ValueError(f"most: {self.most} leaves no entropy above least = {self.least}")
        if self.min_context + self.horizon > self.context:
            raise ValueError(
                f"context: {self.context} tokens do not hold min_context = {self.min_context} and horizon = "
                f"{self.horizon}; raise it"
            )
        if self.context > self.tokens_per_microbatch:
            raise ValueError(f"tokens_per_microbatch: must hold a piece; set it to context = {self.context} or more")
        return self
