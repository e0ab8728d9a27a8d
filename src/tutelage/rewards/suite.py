"""The suite: all components of a reward at work on groups of samples, with timeouts, and faults as data."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from itertools import islice
from threading import Event
from types import TracebackType
from typing import Self

from tutelage.rewards.base import Fault, Reward, Spread, Told, outcomes, outcomes_together, refuse_ambiguous
from tutelage.rewards.pool import WorkerPool
from tutelage.rewards.worker import Job
from tutelage.types import Group, Sample


class RewardSuite:
    """Scores groups. Use it as a context manager: leaving it ends its workers.

    A sample whose components all gave a finite number gets `reward`, their weighted sum, and `token_rewards`, the part
    of it that components tell of single tokens; one with a faulty component gets `failure`, which names the component
    and the reason, and its `reward` stays None. What a sample gets depends on nothing but its prompt and itself (and
    its group, for a batch function): not on order, nor on the workers. A component that does not count for a prompt, or
    not yet, is not asked, adds nothing and is not recorded.

    Args:
        rewards: the components, as `build_rewards` makes them.
        timeout: seconds an isolated component may take over one sample, where it allows itself no less. A batch gets as
            many times that.
        workers: the most processes for isolated components; None: one for each core, at most 8.
    """

    def __init__(self, rewards: Sequence[Reward], timeout: float = 10.0, workers: int | None = None) -> None:
        self.rewards = tuple(rewards)
        refuse_ambiguous(self.rewards, "rewards")
        self.progress = 1.0  # the share of the steps that are done, for components that count from some share on
        self._timeout = timeout
        self._isolated = [reward for reward in self.rewards if reward.isolated]
        self._pool = WorkerPool(self._isolated, workers or min(os.cpu_count() or 1, 8))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def together(self) -> bool:
        """Is one of the components quicker for all groups at once?"""
        return any(reward.together and self.progress >= reward.after for reward in self.rewards)

    @property
    def labels(self) -> tuple[str, ...]:
        """The components' names, as they stand in `Sample.rewards`."""
        return tuple(reward.label for reward in self.rewards)

    def score(self, groups: Sequence[Group], abandoned: Event | None = None) -> None:
        """Fills `rewards`, and `reward` or `failure`, of every sample. To be called from one thread at a time.

        Args:
            abandoned: set by another thread when the scores are no longer wanted.

        Raises:
            TutelageError: no worker can start, or none can load the rewards.
            AbandonedError: `abandoned` was set; no sample has been touched.
        """
        samples = [sample for group in groups for sample in group.samples]
        answers = self._pool.run(self._jobs(groups), abandoned)
        isolated = iter([outcome for answer in answers for outcome in answer])
        columns: list[list[Told | None]] = []
        for reward in self.rewards:
            own = self._counting(reward, groups)
            if reward.isolated:
                found = islice(isolated, sum(len(group.samples) for group in own))
            elif reward.together:
                found = iter(outcomes_together(reward, own) if own else ())
            else:
                found = iter([o for group in own for o in outcomes(reward, group.prompt, group.samples)])
            counted = [reward.counts(group.prompt, self.progress) for group in groups for _ in group.samples]
            columns.append([next(found) if counts else None for counts in counted])
        for sample, row in zip(samples, zip(*columns, strict=True), strict=True):
            self._conclude(sample, row)

    def close(self) -> None:
        """Ends the workers. The suite may be used again afterwards: they start anew."""
        self._pool.close()

    def _counting(self, reward: Reward, groups: Sequence[Group]) -> list[Group]:
        """The groups that a component is asked about."""
        return [group for group in groups if reward.counts(group.prompt, self.progress)]

    def _jobs(self, groups: Sequence[Group]) -> list[Job]:
        """Component by component, group by group: a job for each sample, or for each group where they go together."""
        jobs: list[Job] = []
        for place, reward in enumerate(self._isolated):
            for group in self._counting(reward, groups):
                together = [group.samples] if reward.grouped else [[sample] for sample in group.samples]
                seconds = min(self._timeout, reward.time_limit(group.prompt) or self._timeout)
                jobs += [Job(place, group.prompt, part, seconds * len(part)) for part in together]
        return jobs

    def _conclude(self, sample: Sample, row: Sequence[Told | None]) -> None:
        sample.rewards, sample.token_rewards, sample.reward, sample.failure = {}, [], None, None
        faults: list[str] = []
        total = 0.0
        for reward, outcome in zip(self.rewards, row, strict=True):
            if outcome is None:
                continue
            if isinstance(outcome, Fault):
                faults.append(f"{reward.label}: {outcome.reason}")
                continue
            if isinstance(outcome, Spread):
                if reward.weight:
                    before = sample.token_rewards or [0.0] * len(outcome.tokens)
                    sample.token_rewards = [b + reward.weight * t for b, t in zip(before, outcome.tokens, strict=True)]
                outcome = outcome.total
            sample.rewards[reward.label] = outcome
            total += reward.weight * outcome
        if not faults and not math.isfinite(total):
            faults.append(f"the weighted sum of {sample.rewards} is {total}")
        if faults:
            sample.failure, sample.token_rewards = "; ".join(faults), []
        else:
            sample.reward = total
