"""A stage's guards at work: they see each step, tell what they find, and say when to stop or to go back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tutelage.config import Guards
from tutelage.errors import GuardError, NonFiniteError
from tutelage.training.checkpoint import discard_after, load_checkpoint
from tutelage.training.guards import Step, Verdict, doubtful, judge, may_roll_back
from tutelage.training.state import ROLLBACKS, SLOWER, State

Tell = Callable[[Mapping[str, Any]], None]
"""Takes an event: its step, guard, action and why."""


@dataclass(frozen=True, slots=True)
class Logs:
    """What a roll back needs of the run's logs.

    `past` are the stage's steps on record; `cut_back` shortens the logs to the offsets of a checkpoint, but for the
    events, which tell of it.
    """

    past: Callable[[], Sequence[Step]]
    cut_back: Callable[[Mapping[str, int]], None]
    tell: Tell


class Watch:
    """The guards of one stage. What they know of earlier steps is the record's: a resumed run knows as much."""

    def __init__(self, guards: Guards, logs: Logs, state: State) -> None:
        self.guards, self.logs = guards, logs
        self.compute = "bf16" if state.policy.compute == torch.bfloat16 else "fp32"
        self.rolls_back = may_roll_back(guards)
        self.history = list(logs.past())

    @property
    def doubtful(self) -> bool:
        """Are the weights of the last step none to go back to?"""
        return self.rolls_back and doubtful(self.history, self.guards, self.compute)

    def see(self, step: int, numbers: Step) -> Verdict | None:
        """Looks at a step; tells its warnings. Returns the verdict to roll back by, if there is one.

        Raises:
            GuardError: one that stops.
        """
        self.history.append({**numbers, "step": step})
        verdicts = judge(self.history, self.guards, self.compute)
        for verdict in verdicts:
            if verdict.action != "roll-back":
                self.logs.tell(_event(verdict))
        stops = [verdict for verdict in verdicts if verdict.action == "stop"]
        if stops:
            raise GuardError(f"guards.{stops[0].guard}: {stops[0].why}. {_remedy(stops[0].guard)}")
        return min((v for v in verdicts if v.action == "roll-back"), key=lambda v: v.since, default=None)

    def failed(self, step: int, error: NonFiniteError) -> Verdict:
        """The verdict to roll back by on a step that was not applied. Raises the error where that is to stop."""
        verdict = Verdict("non_finite", self.guards.non_finite, step, step, str(error))
        if verdict.action == "stop":
            self.logs.tell(_event(verdict))
            raise error
        return verdict

    def roll_back(self, state: State, folder: Path, verdict: Verdict) -> None:
        """Restores the newest checkpoint from before the step that is out of bounds; from there on it goes slower.

        The step's numbers were measured on the weights that the step before had left, so those are none to go back to.

        Raises:
            GuardError: there were as many already as the stage may have, or no such checkpoint is left.
        """
        done, rate = int(state.dials.get(ROLLBACKS, 0.0)), state.dials.get(SLOWER, 1.0)
        stopped = {**_event(verdict), "action": "stop"}
        if done >= self.guards.rollbacks:
            self.logs.tell(stopped)
            raise GuardError(
                f"guards.{verdict.guard}: {verdict.why}, after {done} roll backs (guards.rollbacks = "
                f"{self.guards.rollbacks}). {_remedy(verdict.guard)}"
            )
        offsets, _ = load_checkpoint(state, folder, at_most=max(0, verdict.since - 2))
        if not offsets:
            self.logs.tell(stopped)
            raise GuardError(
                f"guards.{verdict.guard}: {verdict.why}, and no checkpoint of step {max(0, verdict.since - 2)} or "
                "before is left to go back to; raise checkpoints.keep"
            )
        discard_after(folder, state.step)
        state.dials |= {ROLLBACKS: done + 1.0, SLOWER: rate * self.guards.slow_down}
        self.logs.cut_back(offsets)
        self.history = list(self.logs.past())
        self.logs.tell({**_event(verdict), "to": state.step, "lr_share": state.dials[SLOWER]})


def _event(verdict: Verdict) -> dict[str, Any]:
    return {"step": verdict.step, "guard": verdict.guard, "action": verdict.action, "why": verdict.why}


def event_in_words(event: Mapping[str, Any]) -> str:
    """A line of `events.jsonl` as people read it."""
    done = {"warn": "warning", "stop": "stopped", "roll-back": "rolled back"}.get(event["action"], event["action"])
    if "to" in event:
        done += f" to step {event['to']}, the learning rate from now on times {event['lr_share']:g}"
    return f"{done}: guards.{event['guard']}: {event['why']}"


_REMEDIES = {
    "non_finite": "lower the learning rate, or look at the batch that was kept",
    "mismatch": "another engine (engine = 'transformers') tells whether the sampler is at fault",
    "mismatch_max": "another engine (engine = 'transformers') tells whether the sampler is at fault",
    "credit": "look at the algorithm's credit, and at the sign of the rewards",
    "kl": "lower the learning rate, or raise the algorithm's kl",
}


def _remedy(guard: str) -> str:
    own = f"{_REMEDIES[guard]}; or " if guard in _REMEDIES else ""
    words = f"{own}change the guard (docs/guards.md), and resume by running the recipe on this folder"
    return words[0].upper() + words[1:]
