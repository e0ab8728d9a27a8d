"""Playing adversaries against a reward: what it pays for that it should not, what it should and does not, how long.

A reward is one of three kinds. `answer`: it compares with a gold answer, so a false positive is a wrong answer that
earns at least half of what the right one earns, and a false negative a right answer in other words that earns less.
`judge`: the same, of a model's opinion. `form`: no answer is right or wrong, so nothing is a false positive; what it
pays for texts without content is told. A failure is an answer that could not be scored, of whatever kind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from tutelage.rewards.adversaries import Answer, adversaries
from tutelage.rewards.base import Fault, Outcome, Reward, Spread, Told, outcomes_together
from tutelage.rewards.gold import MATHS, NUMBERS, TEXTS, WORDS, Gold
from tutelage.rewards.maths import MathsReward
from tutelage.rewards.pool import WorkerPool
from tutelage.rewards.worker import Job
from tutelage.types import Group, Prompt, Sample

Kind = Literal["answer", "judge", "form"]
Scorer = Callable[[Prompt, str], tuple[Outcome, float]]  # an answer's score and the seconds it took

_JUDGES: Final = ("judge", "local-judge")
_GOLD: Final = {"numeric": NUMBERS, "maths": MATHS, "prediction": TEXTS}
_ATTACKED: Final = 4  # questions that all adversaries are played at; the others tell of right answers alone
_WARMING: Final = 120.0  # seconds for the first answer, which loads what the reward needs
_PATIENCE: Final = 5.0  # times the limit, on the clock: then a worker is killed, however busy the machine is


@dataclass(frozen=True, slots=True)
class Trial:
    """One answer, and what the reward made of it."""

    question: str
    answer: Answer
    score: Outcome
    seconds: float
    paid: bool


@dataclass(slots=True)
class Audit:
    """What came of all answers."""

    reward: str
    kind: Kind
    limit: float  # seconds
    trials: list[Trial] = field(default_factory=list[Trial])

    @property
    def wrong(self) -> list[Trial]:
        """The answers that should earn nothing. None where nothing is right or wrong."""
        return [] if self.kind == "form" else self._wanted("nothing")

    @property
    def right(self) -> list[Trial]:
        """The answers that should be paid for."""
        return [] if self.kind == "form" else self._wanted("payment")

    @property
    def false_positives(self) -> list[Trial]:
        return [trial for trial in self.wrong if trial.paid]

    @property
    def false_negatives(self) -> list[Trial]:
        return [trial for trial in self.right if not trial.paid]

    @property
    def failures(self) -> list[Trial]:
        """Answers that could not be scored."""
        return [trial for trial in self.trials if isinstance(trial.score, Fault)]

    @property
    def slow(self) -> list[Trial]:
        """Answers that took longer than the limit, or were killed."""
        return [trial for trial in self.trials if trial.seconds > self.limit]

    @property
    def slowest(self) -> float:
        return max((trial.seconds for trial in self.trials), default=0.0)

    @property
    def for_nothing(self) -> float:
        """The most that a text without content earns, as a share of the most that any answer earns."""
        scores = [trial.score for trial in self.trials if not isinstance(trial.score, Fault)]
        empty = [trial for trial in self.trials if trial.answer.family in ("nothing", "gibberish")]
        most = max((trial.score for trial in empty if not isinstance(trial.score, Fault)), default=0.0)
        best = max(scores, default=0.0)
        return most / best if best > 0.0 else 0.0

    def _wanted(self, wanted: str) -> list[Trial]:
        return [trial for trial in self.trials if trial.answer.wanted == wanted]


def share(some: Sequence[Trial], of: Sequence[Trial]) -> float:
    """How many of the trials, as a share."""
    return len(some) / len(of) if of else 0.0


def golds_for(reward: Reward) -> tuple[Gold, ...]:
    """The built-in questions that suit a reward."""
    read_by = getattr(reward, "by", None)  # a majority reads answers as another reward does
    name = read_by.get("type") if isinstance(read_by, dict) else read_by
    golds = _GOLD.get(name if reward.type == "majority" else reward.type, WORDS)
    strict = getattr(reward, "strict", False) or getattr(reward, "ignore_case", True) is False
    return tuple(replace(gold, equivalents=()) for gold in golds) if strict else golds


def audit(
    reward: Reward,
    golds: Sequence[Gold],
    limit: float = 1.0,
    kind: Kind | None = None,
    watch: Callable[[int], None] = lambda done: None,
) -> Audit:
    """Plays every adversary and every right answer.

    Args:
        golds: the questions; several, with different answers, tell whether the reward reads them.
        limit: seconds for one answer, not counted those without a core. One that takes five times as long is killed;
            where the reward is not for workers (`together`), it is only timed.
        kind: what the reward is; None: found out. One that gives answers the same whatever the question is of form.
        watch: told how many answers have been judged.

    Raises:
        TutelageError: the reward cannot be loaded.
    """
    with _Playing(reward, limit) as playing:
        kind = kind or _kind(reward, golds, playing.score)
        found = Audit(reward.label, kind, limit)
        for number, gold in enumerate(golds):
            right, _ = playing.score(gold.prompt, reward.demonstrate(gold.answer))
            for answer in _answers(reward, gold, number < _ATTACKED):
                score, seconds = playing.score(gold.prompt, answer.text)
                paid = _paid(score, right)
                found.trials.append(Trial(gold.prompt.id, answer, score, seconds, paid))
                watch(len(found.trials))
        return found


def _answers(reward: Reward, gold: Gold, attacked: bool) -> Iterator[Answer]:
    form = reward.demonstrate
    yield Answer("right", "gold", form(gold.answer), "payment")
    if reward.type not in ("exact", "prediction") and not getattr(reward, "strict", False):
        yield Answer("right", "in a sentence", f"So the answer is {form(gold.answer)}.", "payment")
    for text in gold.equivalents:
        yield Answer("right", text.strip(), form(text), "payment")
    if attacked:
        latex = isinstance(reward, MathsReward)
        yield from adversaries(gold.asked, gold.answer, gold.wrong, form, latex)
    else:
        yield Answer("form", "wrong", form(gold.wrong))


def _paid(score: Outcome, right: Outcome) -> bool:
    if isinstance(score, Fault) or isinstance(right, Fault):
        return False
    return score >= right / 2 if right > 0.0 else score > 0.0 and score > right


def _kind(reward: Reward, golds: Sequence[Gold], score: Scorer) -> Kind:
    """Does the reward read the gold answers? Then a right answer to one question is worth less to another."""
    if reward.type in _JUDGES:
        return "judge"
    for one, other in zip(golds, [*golds[1:], golds[0]], strict=True):
        asked = one.prompt if len(golds) == 1 else other.prompt
        elsewhere = replace(asked, answer=one.wrong) if len(golds) == 1 else asked
        text = reward.demonstrate(one.answer)
        if score(one.prompt, text)[0] != score(elsewhere, text)[0]:
            return "answer"
    return "form"


class _Playing:
    """The reward at work in a worker that can be killed, or here where it is not made for one."""

    def __init__(self, reward: Reward, limit: float) -> None:
        self._reward, self._limit = reward, limit
        self._pool = WorkerPool([] if reward.together else [reward], workers=1)
        self._warm = False

    def __enter__(self) -> _Playing:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def score(self, prompt: Prompt, text: str) -> tuple[Outcome, float]:
        """What the answer is worth, and the seconds that took without those that were waited for a core."""
        samples = self._group(prompt, text)
        if not self._warm:
            self._told(prompt, self._group(prompt, self._reward.demonstrate(prompt.answer or "")), _WARMING)
            self._warm = True
        workers = self._pool.processes
        before, begun = [_ran_and_waited(one) for one in ("self", *workers)], time.perf_counter()
        told = self._told(prompt, samples, _PATIENCE * self._limit)
        seconds = time.perf_counter() - begun
        self._warm = self._pool.processes == workers
        if self._warm:
            after = [_ran_and_waited(one) for one in ("self", *workers)]
            ran, waited = (
                sum(end[which] - start[which] for start, end in zip(before, after, strict=True)) for which in (0, 1)
            )
            seconds = max(ran, seconds - waited)
        return told.total if isinstance(told, Spread) else told, seconds

    def _group(self, prompt: Prompt, text: str) -> list[Sample]:
        """The answer; where answers are compared with each other, beside two right ones."""
        others: list[str] = []
        if (self._reward.grouped or self._reward.together) and getattr(self._reward, "mode", "pairs") == "pairs":
            others = [self._reward.demonstrate(prompt.answer or "")] * 2
        return [_sample(prompt, index, one) for index, one in enumerate([text, *others])]

    def _told(self, prompt: Prompt, samples: list[Sample], seconds: float) -> Told:
        if self._reward.together:
            return outcomes_together(self._reward, [Group(prompt, (), samples)])[0]
        return self._pool.run([Job(0, prompt, samples, seconds)])[0][0]


def _ran_and_waited(process: int | str) -> tuple[float, float]:
    """Seconds that a process has run, and those that it could have but no core was free. Linux says; else 0."""
    try:
        ran, waited, _ = Path(f"/proc/{process}/schedstat").read_text().split()
    except (OSError, ValueError):
        return 0.0, 0.0
    return int(ran) / 1e9, int(waited) / 1e9


def _sample(prompt: Prompt, index: int, text: str) -> Sample:
    """With a token for each four characters, as far as a reward looks at their number."""
    tokens = [0] * (1 + len(text) // 4)
    return Sample(prompt.id, index, tokens, [0.0] * len(tokens), text, "stop", 0)
