"""The reward `judge`: what a chat model behind an OpenAI-compatible server thinks of an answer, or of two."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from tutelage.config import KeyVariable, ServerUrl
from tutelage.rewards.answers import Tag
from tutelage.rewards.base import Fault, Outcome, Reward
from tutelage.rewards.chat_server import ChatServer, JudgeError, require_client, require_key
from tutelage.rewards.judging import Grades, Pairs
from tutelage.rewards.thinking import Reads, judged_of, refuse_idle_tag
from tutelage.types import Prompt, Sample


class JudgeReward(Reward):
    """A grade between 0 and 1, or the share of its comparisons with the neighbouring answers of its group that it wins.

    What is asked and what comes of it: `rewards/judging.py`. What the judge says that holds no verdict is a fault of
    the sample, never a 0.
    """

    type: str = "judge"
    url: ServerUrl
    model: str
    key_variable: KeyVariable | None = None  # the environment variable that holds the key
    mode: Literal["grade", "pairs"] = "grade"
    rubric: str | None = None  # what makes an answer good, in words
    reads: Reads = "whole"  # or what follows the end of thinking; without that end, nothing was answered
    think: Tag = "think"  # the tag of thinking
    scale: tuple[int, int] = (1, 10)  # of a grade
    max_tokens: PositiveInt = 512  # of what the judge says
    request_timeout: PositiveFloat = 30.0  # seconds
    retries: NonNegativeInt = 3  # of what may pass: a busy server, a broken connection
    parallel: PositiveInt = 8  # requests at a time, for one group

    @model_validator(mode="after")
    def _check_scale(self) -> JudgeReward:
        if self.mode == "pairs" and "scale" in self.model_fields_set:
            raise ValueError("scale: is for mode = 'grade'")
        refuse_idle_tag(self.reads, self.model_fields_set)
        _ = self._judging
        return self

    @property
    def grouped(self) -> bool:
        return True

    @property
    def _judging(self) -> Pairs | Grades:
        return Pairs(self.rubric, unanimous=True) if self.mode == "pairs" else Grades(self.rubric, self.scale)

    def check(self, where: str) -> None:
        require_client(f"{where}: asking a judge")
        require_key(self.key_variable, where)

    def score(self, prompt: Prompt, sample: Sample) -> float:
        (only,) = self.score_group(prompt, [sample])
        if isinstance(only, Fault):
            raise ValueError(only.reason)
        return only

    def score_group(self, prompt: Prompt, samples: Sequence[Sample]) -> Sequence[Outcome]:
        """One score for each sample, or its fault."""
        texts = [judged_of(sample.text, self.reads, self.think) for sample in samples]
        questions = self._judging.questions(prompt, texts)
        with ThreadPoolExecutor(self.parallel) as pool:
            said = dict(zip(questions, pool.map(self._ask, questions), strict=True))
        return self._judging.scores(prompt, texts, said)

    def _ask(self, question: str) -> Outcome:
        server = ChatServer(self.url, self.model, self.key_variable, self.request_timeout, self.retries)
        try:
            said = server.ask([{"role": "user", "content": question}], self.max_tokens).text
        except JudgeError as error:
            return Fault(str(error))
        return self._judging.read(said)
