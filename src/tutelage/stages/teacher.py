"""A teacher behind a server answers in the policy's place: its text is taken over, so its tokenizer may be another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tutelage.config import RejectionStage, Teacher
from tutelage.data.answers import render_answer
from tutelage.models import load_tokenizer
from tutelage.rewards import Reward, RewardSuite
from tutelage.rewards.chat_server import ChatServer, JudgeError, Reply, UnavailableError
from tutelage.seeds import derive_seed
from tutelage.stages.context import StageRun
from tutelage.stages.model_rewards import with_models
from tutelage.types import Group, Prompt, Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@contextmanager
def teaching(
    run: StageRun, stage: RejectionStage, teacher: Teacher, rewards: Sequence[Reward]
) -> Iterator[Callable[[Sequence[Prompt]], list[Group]]]:
    """The teacher, and the rewards in memory: prompts in, rewarded groups out.

    A request that fails is a sample without an answer, with the reason. Where so many in a row fail as are asked at a
    time, each with all its retries, the rest of the portion fails at once, for the same reason.
    """
    tokenizer = load_tokenizer(run.model)
    with (
        RewardSuite(with_models(rewards, run), stage.reward_timeout) as suite,
        ThreadPoolExecutor(teacher.parallel) as pool,
    ):

        def answered(prompts: Sequence[Prompt]) -> list[Group]:
            asker = _Asker(teacher, stage, tokenizer, run.seed, _Outage(teacher.parallel))
            groups = [Group(prompt, (), []) for prompt in prompts]
            wanted = [(group, index) for group in groups for index in range(stage.answers)]
            samples = pool.map(lambda one: asker.sample(one[0].prompt, one[1]), wanted)
            for done, ((group, _), sample) in enumerate(zip(wanted, samples, strict=True), start=1):
                group.samples.append(sample)
                run.progress.progress(done, len(wanted), "answers")
            came = [Group(each.prompt, (), [one for one in each.samples if one.failure is None]) for each in groups]
            suite.score([group for group in came if group.samples])
            return groups

        yield answered


@dataclass(slots=True)
class _Outage:
    """How many requests in a row have failed, for whatever prompts."""

    most: int
    failed: int = 0
    reason: str = ""

    @property
    def reached(self) -> bool:
        return self.failed >= self.most


@dataclass(frozen=True, slots=True)
class _Asker:
    """Asks for one answer at a time."""

    teacher: Teacher
    stage: RejectionStage
    tokenizer: PreTrainedTokenizerBase
    seed: int
    outage: _Outage

    def sample(self, prompt: Prompt, index: int) -> Sample:
        """An answer, with the tokens that the student would write it in, for the rewards that read them."""
        try:
            if self.outage.reached:
                raise JudgeError(f"not asked, after {self.outage.failed} failures in a row: {self.outage.reason}")
            reply = self._ask(prompt, derive_seed(self.seed, prompt.id, index))
            self.outage.failed = 0
        except UnavailableError as error:
            self.outage.failed, self.outage.reason = self.outage.failed + 1, str(error)
            return _unanswered(prompt, index, error)
        except JudgeError as error:
            return _unanswered(prompt, index, error)
        text = reply.text
        if self.teacher.thinking and reply.thinking:
            text = f"<think>\n{reply.thinking.strip()}\n</think>\n\n{text.strip()}"
        tokens = render_answer(self.tokenizer, prompt, text)[1]
        return Sample(prompt.id, index, tokens, [0.0] * len(tokens), text, "length" if reply.cut else "stop", 0)

    def _ask(self, prompt: Prompt, seed: int) -> Reply:
        """What the server says. A plain prompt is what the user says."""
        teacher, sampling = self.teacher, self.stage.sampling
        server = ChatServer(teacher.url, teacher.model, teacher.key_variable, teacher.request_timeout, teacher.retries)
        said = [(message.role, message.content) for message in prompt.messages] or [("user", prompt.text or "")]
        messages = [{"role": role, "content": content} for role, content in said]
        more = {} if sampling.top_p == 1.0 else {"top_p": sampling.top_p}
        return server.ask(messages, sampling.max_new_tokens, sampling.temperature, seed=seed % 2**31, **more)


def _unanswered(prompt: Prompt, index: int, error: JudgeError) -> Sample:
    return Sample(prompt.id, index, [], [], "", "stop", 0, failure=str(error))
