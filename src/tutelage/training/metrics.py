"""The numbers of a run: an append-only file, and what each number means in a sentence."""

from __future__ import annotations

import errno
import json
import math
import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tutelage.errors import RunFolderError
from tutelage.training.trackers import Trackers

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Meaning:
    """A metric's name as people say it, and what it says in one sentence."""

    title: str
    sentence: str


MEANINGS: dict[str, Meaning] = {
    "reward": Meaning("Reward", "Mean reward of the step's samples, all components weighted and added."),
    "reward_std": Meaning("Reward spread", "Standard deviation of the reward over the step's samples."),
    "score": Meaning("Score", "Mean of the task's own score, the share of right answers where it is 0 or 1."),
    "entropy": Meaning(
        "Entropy", "How undecided the policy is at each token, in nats; near 0 it has stopped exploring."
    ),
    "kl": Meaning(
        "KL to the reference", "How far the policy has moved from its frozen start, in nats a token."
    ),
    "clipped": Meaning("Clipped share", "Share of tokens whose probability ratio left the clip range."),
    "length": Meaning("Response length", "Mean number of tokens in a completion."),
    "truncated": Meaning("Truncated share", "Share of completions cut off at the token limit."),
    "loss": Meaning(
        "Loss", "What the optimizer minimises; in RL it hovers around 0 by construction and says little."
    ),
    "grad_norm": Meaning("Gradient norm", "Size of the gradient before clipping; spikes are warnings."),
    "lr": Meaning("Learning rate", "The step size that the schedule gave."),
    "mismatch": Meaning(
        "Sampler mismatch",
        "Mean absolute difference of the sampler's and the learner's log-probability of a token, "
        "before any truncation; it should be near 0 when on-policy.",
    ),
    "mismatch_max": Meaning(
        "Largest mismatch", "The largest difference of the two log-probabilities over the step's tokens."
    ),
    "failed": Meaning(
        "Failed samples", "Samples whose reward could not be computed; left out, never counted as 0."
    ),
    "zero_spread_groups": Meaning(
        "Groups without spread",
        "Share of prompts whose samples all got the same reward and so teach nothing.",
    ),
    "distinct": Meaning("Distinct answers", "Share of a prompt's completions that differ from one another."),
    "tokens": Meaning("Tokens", "Tokens that were learned from in the step."),
    "tokens_per_second": Meaning("Tokens per second", "Completion tokens per second of the whole step."),
    "generate_seconds": Meaning("Time to sample", "Seconds of the step spent on writing completions."),
    "reward_seconds": Meaning("Time to reward", "Seconds of the step spent on scoring completions."),
    "learn_seconds": Meaning("Time to learn", "Seconds of the step spent on forward, backward and update."),
    "step_seconds": Meaning("Step time", "Seconds of the whole step."),
}


def meaning(name: str) -> Meaning:
    """What a metric means. `reward/NAME` is a component of the reward; an unknown name stands for itself."""
    if name.startswith("reward/"):
        component = name.removeprefix("reward/")
        return Meaning(f"Reward: {component}", f"Mean of the reward component '{component}', unweighted.")
    return MEANINGS.get(name, Meaning(name, ""))


class Metrics:
    """A stage's lines of the run's `metrics.jsonl`: one a step, in the file as soon as it is written.

    `offset` belongs into a checkpoint; `truncate_to(offset)` on resume cuts what was written after it.
    `seconds` is the run's time up to the line, and goes on from the last line kept.
    """

    name = "metrics"

    def __init__(self, folder: Path, stage: str, trackers: Trackers | None = None) -> None:
        self._path = folder / "metrics.jsonl"
        self._stage = stage
        self._trackers = trackers
        self._warned = False
        try:
            # Unbuffered: a line is with the operating system once written, and a failed write leaves nothing
            # behind that a later flush would trip over.
            self._file = self._path.open("ab", buffering=0)
        except OSError as error:
            raise RunFolderError(f"{self._path}: cannot be written: {error.strerror}") from error
        self._began = time.monotonic() - self._last_seconds()

    @property
    def offset(self) -> int:
        """Bytes written so far."""
        return os.fstat(self._file.fileno()).st_size

    def truncate_to(self, offset: int) -> None:
        """Cuts the file back to what it was at an earlier `offset`."""
        self._file.truncate(min(offset, self.offset))
        self._began = time.monotonic() - self._last_seconds()

    def record(self, step: int, numbers: Mapping[str, float]) -> None:
        """Appends a step's numbers and forwards them to the trackers. A full disk is warned of once."""
        seconds = round(time.monotonic() - self._began, 3)
        finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        self._append({"stage": self._stage, "step": step, "seconds": seconds, **finite})
        if self._trackers is not None:
            self._trackers.log(self._stage, step, numbers)

    def close(self) -> None:
        """Closes the file. The trackers are the run's: they outlive the stage."""
        self._file.close()

    def _append(self, row: Mapping[str, object]) -> None:
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        before = self.offset
        try:
            written = self._file.write(line)
        except OSError as error:
            if error.errno not in _FULL:
                raise RunFolderError(f"{self._path}: cannot be written: {error.strerror}") from error
            written = 0
        if written == len(line):
            return
        if written:
            self._file.truncate(before)  # half a line would spoil the next one
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{self._path}: the disk is full; training goes on, its metrics are lost until there is room",
                RuntimeWarning,
                stacklevel=3,
            )

    def _last_seconds(self) -> float:
        """The time that the run had taken at the last whole line."""
        if not self._path.is_file():
            return 0.0
        last = 0.0
        with self._path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    last = float(json.loads(line)["seconds"])
                except (ValueError, KeyError, TypeError):
                    continue
        return last
