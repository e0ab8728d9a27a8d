"""The reward `code`: does the program in the answer do what it should? It runs in the sandbox; the host compares."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, PrivateAttr

from tutelage.errors import SandboxError
from tutelage.rewards.answers import AnswerReward
from tutelage.rewards.code_task import AssertionTask, FunctionTask, ProgramTask, code_task
from tutelage.sandbox import Limits, open_sandbox, run_python
from tutelage.sandbox.assertions import passed
from tutelage.sandbox.budget import Budget
from tutelage.sandbox.calls import Called, Raised, Returned, call
from tutelage.sandbox.comparing import same, same_text
from tutelage.sandbox.hidden import hidden_cases
from tutelage.seeds import derive_seed
from tutelage.types import Prompt, Sample

_FENCE: Final = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*([\w+-]*)[^\n`]*$")
_LANGUAGES: Final = frozenset({"", "python", "python3", "py"})


class CodeReward(AnswerReward):
    """1 where the program in the answer passes all of the prompt's tests, else 0; or, with `partial`, their share.

    The program is the last block between fences. Each call of it is a fresh process in the sandbox that is shown the
    inputs alone; expected values never leave the host, and are compared by type. Tests that assert run in a process of
    their own (`sandbox/assertions.py`). The prompt's fields that hold tests: docs/sandbox.md.
    """

    type: str = "code"
    partial: bool = False  # the share of the tests that pass; else all of them or nothing
    seconds: PositiveFloat = 2.0  # of one run
    total_seconds: PositiveFloat = 8.0  # of all runs for one answer
    memory_mb: PositiveInt = 512
    hidden: NonNegativeInt = 10  # inputs that are drawn for a prompt with a generator
    _seed: int = PrivateAttr(0)

    @property
    def patience(self) -> float:
        return self.total_seconds + self.seconds

    def seeded(self, seed: int) -> CodeReward:
        ready = self.model_copy()
        ready._seed = seed
        return ready

    def check(self, where: str) -> None:
        try:
            open_sandbox()
        except SandboxError as error:
            raise SandboxError(f"{where}: {error}") from None

    def prepare(self) -> None:
        open_sandbox()

    def demonstrate(self, answer: str) -> str:
        return super().demonstrate(f"```python\n{answer}\n```")

    def reading(self, sample: Sample) -> str | None:
        return last_block(self.answer_of(sample) or "")

    def score(self, prompt: Prompt, sample: Sample) -> float:
        task = code_task(prompt)
        source = self.reading(sample)
        if source is None:
            return 0.0
        verdicts = self._verdicts(task, prompt, source)
        if not self.partial:
            return float(all(verdicts))
        each = list(verdicts)
        return sum(each) / len(each)

    @property
    def _limits(self) -> Limits:
        return Limits(seconds=self.seconds, memory=self.memory_mb << 20)

    def _verdicts(
        self, task: FunctionTask | ProgramTask | AssertionTask, prompt: Prompt, source: str
    ) -> Iterator[bool]:
        """Does it pass each of the tests? One after the other, as they are asked for."""
        sandbox, limits = Budget(open_sandbox(), self.total_seconds), self._limits
        if isinstance(task, AssertionTask):
            own = Limits(seconds=self.total_seconds)
            yield from passed(sandbox, f"{task.begins}\n{source}", task.assertions, limits, own)
        elif isinstance(task, ProgramTask):
            for stdin, expected in task.cases:
                printed = run_python(source, stdin, limits, sandbox)
                yield printed.exit_code == 0 and same_text(printed.stdout, expected)
        else:
            cases = [*task.cases, *self._drawn(task, prompt)]
            if not cases:
                raise ValueError(f"prompt {prompt.id!r} shows no test, and hidden = 0 draws none")
            for inputs, expected in cases:
                yield _agrees(call(sandbox, source, task.name, inputs, limits), expected, task.tolerance)

    def _drawn(self, task: FunctionTask, prompt: Prompt) -> Sequence[tuple[Sequence[Any], Called]]:
        if task.generator is None or not self.hidden:
            return ()
        made = task.generator
        return _hidden(made.source, made.reference, task.name, derive_seed(self._seed, prompt.id), self.hidden)


@lru_cache(maxsize=256)  # the samples of a group share their prompt's
def _hidden(generator: str, reference: str, name: str, seed: int, count: int) -> list[tuple[list[Any], Called]]:
    return hidden_cases(open_sandbox(), generator, reference, name, seed, count, Limits())


def _agrees(called: Called, expected: Called, tolerance: float) -> bool:
    match called, expected:
        case Returned(given), Returned(wanted):
            return same(given, wanted, tolerance)
        case Raised(given), Raised(wanted):
            return given == wanted
        case _:
            return False


def last_block(text: str) -> str | None:
    """What stands in the last block between fences that is Python or says nothing of its language; None without one.

    A block that is not closed is none.
    """
    found: str | None = None
    opening: re.Match[str] | None = None
    lines: list[str] = []
    for line in text.splitlines():
        fence = _FENCE.match(line)
        if opening is None:
            if fence is not None:
                opening, lines = fence, []
        elif fence is not None and fence[1].startswith(opening[1]) and not fence[2]:
            if opening[2].lower() in _LANGUAGES:
                found = "\n".join(lines) + "\n"
            opening = None
        else:
            lines.append(line)
    return found
