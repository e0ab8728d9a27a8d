"""Prompts whose answers cannot be rewarded, again and again: they are asked no more, and others in their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tutelage.config import RlStage
from tutelage.errors import FailedSamplesError
from tutelage.rollouts import prompts_of_step
from tutelage.seeds import derive_seed
from tutelage.training import Memory
from tutelage.types import Group, Prompt


class Quarantine:
    """Which prompts a step asks, and which have failed too often. What it knows is the memory's alone."""

    def __init__(self, stage: RlStage, memory: Memory) -> None:
        self._stage, self._memory = stage, memory

    def prompts_of_step(self, prompts: Sequence[Prompt], step: int, attempt: int, seed: int) -> list[Prompt]:
        """Those whose turn it is; in a further round, others, in an order of that round's own.

        In the place of one that is asked no more comes another that is not of the step yet. All others keep their turn.

        Raises:
            FailedSamplesError: too few are left.
        """
        seed = derive_seed(seed, "refill", attempt) if attempt else seed
        own, out = prompts_of_step(prompts, step, self._stage.prompts_per_step, seed), self._memory.quarantined
        kept = [prompt for prompt in own if prompt.id not in out]
        if missing := len(own) - len(kept):
            taken = out.keys() | {prompt.id for prompt in kept}
            spare = [prompt for prompt in prompts if prompt.id not in taken]
            if len(spare) < missing:
                raise FailedSamplesError(
                    f"step {step + 1}: {len(out)} of {len(prompts)} prompts are not asked any more, for their answers "
                    f"could not be rewarded {self._stage.quarantine_after} times in a row, and too few are left; the "
                    f"last: {list(out.items())[-1]}; all are in quarantined.json"
                )
            kept += prompts_of_step(spare, step, missing, derive_seed(seed, "spare"))
        return kept

    def judge(self, groups: Sequence[Group]) -> Iterator[tuple[str, str]]:
        """Counts the failures of a step in the memory. Yields the prompts that are to be asked no more, and why."""
        failing, limit = self._memory.failing, self._stage.quarantine_after
        for group in groups:
            name = group.prompt.id
            reasons = [sample.failure for sample in group.samples if not sample.expert]
            if not reasons or not all(reasons):
                failing.pop(name, None)
                continue
            failing[name] = failing.get(name, 0) + 1
            if failing[name] >= limit and name not in self._memory.quarantined:
                del failing[name]
                reason = f"none of its answers could be rewarded, {limit} times in a row; the last: {reasons[0]}"
                self._memory.quarantined[name] = reason
                yield name, reason
