"""`Reward`: what an answer is worth. Each kind is its recipe's table. Nothing here imports torch: workers load it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tutelage.config import Part
from tutelage.errors import ConfigError
from tutelage.types import Group, Prompt, Sample


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a sample could not be scored. A fault is data: it is recorded with its reason, never scored 0."""

    reason: str


@dataclass(frozen=True, slots=True)
class Spread:
    """What each token of a sample earned by itself. What the whole sample is worth is their sum."""

    tokens: tuple[float, ...]

    @property
    def total(self) -> float:
        return math.fsum(self.tokens)


Outcome = float | Fault
"""What a whole sample is worth."""

Told = Outcome | Spread
"""What a component tells of a sample."""


class Reward(Part, ABC):
    """One component of the reward: an entry of a recipe's `rewards`.

    A user's own kind inherits it and is named by `type = "module:Class"`. What it scores must depend on the prompt and
    the sample alone: a worker may be killed and replaced between any two calls.
    """

    together: ClassVar[bool] = False  # scored for all groups at once: `score_groups` is called, in the caller's process
    isolated: ClassVar[bool] = True  # scored in a worker that is killed when it hangs; False: too simple to hang

    type: str  # its name in a recipe
    name: str | None = None  # its name in metrics and records; by default its type
    weight: float = 1.0  # of its score in the sample's reward
    only: tuple[str, ...] = ()  # the parts of a mixture for whose prompts it counts; none: all
    after: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0  # of the steps: before that it does not count

    @property
    def label(self) -> str:
        """The component's name in metrics and records."""
        return self.name or self.type

    @property
    def spreads(self) -> bool:
        """Does it tell what single tokens earned? Then it scores with a `Spread`, which algorithms may ask for."""
        return False

    @property
    def grouped(self) -> bool:
        """Does one call score all samples of a prompt? Then `score_group` is called, else `score`."""
        return False

    @property
    def patience(self) -> float:
        """Seconds that its own limits let it take over a sample; killed before that, it would give no verdict."""
        return 0.0

    def seeded(self, seed: int) -> Reward:
        """The same for a run of this seed; another one only where its score draws random numbers."""
        return self

    def counts(self, prompt: Prompt, progress: float) -> bool:
        """Is it asked about answers to this prompt, when so large a share of the steps is done?"""
        return progress >= self.after and (not self.only or prompt.part in self.only)

    def time_limit(self, prompt: Prompt) -> float | None:
        """The longest that judging one answer may take before its worker is killed; None: as long as the stage says."""
        return None

    def check(self, where: str) -> None:
        """Looks for what the score needs, without loading it.

        Raises:
            ConfigError: something that the table names does not exist.
            MissingExtraError: an optional package is not installed.
        """

    def prepare(self) -> None:
        """Loads what the score needs. Called once in every worker, before any sample's time is counted."""

    def demonstrate(self, answer: str) -> str:
        """A right answer in the form that this reward looks for."""
        return answer

    @abstractmethod
    def score(self, prompt: Prompt, sample: Sample) -> float | Spread:
        """What the sample, or each of its tokens, is worth. Whatever it raises becomes its recorded failure."""

    def score_group(self, prompt: Prompt, samples: Sequence[Sample]) -> Sequence[object]:
        """What each sample of a prompt is worth, in their order; a `Fault` for one that could not be scored."""
        return [self.score(prompt, sample) for sample in samples]

    def score_groups(self, groups: Sequence[Group]) -> Sequence[Sequence[object]]:
        """The same for several prompts, in their order: for rewards that are quicker so."""
        return [self.score_group(group.prompt, group.samples) for group in groups]


def refuse_ambiguous(rewards: Sequence[Reward], where: str) -> None:
    """Raises ConfigError where there is no component, or two of them have the same name."""
    if not rewards:
        raise ConfigError(f"{where}: give at least one reward, such as {{ type = 'task' }}")
    labels = [reward.label for reward in rewards]
    for i, label in enumerate(labels):
        if label in labels[:i]:
            raise ConfigError(f"{where}[{i}].name: '{label}' is already a reward's name: give each a name of its own")


def refuse_idle(reward: Reward, where: str) -> None:
    """Raises ConfigError for keys of a reward that is no component by itself, where nothing would read them."""
    for key in ("name", "weight", "only", "after"):
        if key in reward.model_fields_set:
            raise ConfigError(f"{where}.{key}: has no use here; it is for an entry of a stage's rewards")


def outcomes(reward: Reward, prompt: Prompt, samples: Sequence[Sample]) -> list[Told]:
    """One outcome a sample. Never raises: what goes wrong is the fault of the samples it went wrong with."""
    if not reward.grouped:
        return [_outcome(reward, prompt, sample) for sample in samples]
    try:
        values = reward.score_group(prompt, samples)
    except (Exception, SystemExit) as error:
        return [_raised(error)] * len(samples)
    return _each(values, samples)


def outcomes_together(reward: Reward, groups: Sequence[Group]) -> list[Told]:
    """One outcome for each sample of all groups, in their order. Never raises, like `outcomes`."""
    try:
        values = list(reward.score_groups(groups))
        if len(values) != len(groups):
            raise ValueError(f"returned scores for {len(values)} of {len(groups)} groups")
    except (Exception, SystemExit) as error:
        return [_raised(error)] * sum(len(group.samples) for group in groups)
    return [one for some, group in zip(values, groups, strict=True) for one in _each(some, group.samples)]


def _each(values: Any, samples: Sequence[Sample]) -> list[Told]:
    """What a call for several samples returned, as one outcome for each."""
    if hasattr(values, "tolist"):  # numpy's and torch's arrays
        values = values.tolist()
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        return [Fault(f"returned {_shown(values)}, not a list of {len(samples)} numbers")] * len(samples)
    if len(values) != len(samples):
        return [Fault(f"returned {len(values)} scores for {len(samples)} samples")] * len(samples)
    return [_checked(value, sample) for value, sample in zip(values, samples, strict=True)]


def _outcome(reward: Reward, prompt: Prompt, sample: Sample) -> Told:
    try:
        return _checked(reward.score(prompt, sample), sample)
    except (Exception, SystemExit) as error:
        return _raised(error)


def _checked(value: object, sample: Sample) -> Told:
    """A finite float, or several, or the fault. True and False are 1 and 0; numpy's and torch's scalars are numbers."""
    if isinstance(value, Fault):
        return value
    if isinstance(value, Spread):
        return _checked_spread(value, sample)
    if value is None or isinstance(value, str | bytes):
        return Fault(f"returned {_shown(value)}, not a number")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: a torch tensor of several numbers
        return Fault(f"returned {_shown(value)}, not a number")
    return number if math.isfinite(number) else Fault(f"returned {number}, not a finite number")


def _checked_spread(spread: Spread, sample: Sample) -> Told:
    if len(spread.tokens) != len(sample.tokens):
        return Fault(f"returned {len(spread.tokens)} numbers for the {len(sample.tokens)} tokens of a sample")
    wrong = next((place for place, number in enumerate(spread.tokens) if not math.isfinite(number)), None)
    return spread if wrong is None else Fault(f"returned {spread.tokens[wrong]} for token {wrong}, not a finite number")


def _raised(error: BaseException) -> Fault:
    message = " ".join(str(error).split())
    return Fault(f"raised {type(error).__name__}" + (f": {message[:300]}" if message else ""))


def _shown(value: object) -> str:
    if value is None:
        return "None"
    return f"{type(value).__name__} {value!r}"[:100]
