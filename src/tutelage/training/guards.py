"""Guard-rails: the numbers of the steps so far in, verdicts out. Nothing here acts; `fit` does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean, median
from typing import Literal

from tutelage.config import Guard, Guards

Step = Mapping[str, float]
"""The metrics of a step, `step` among them."""

Beyond = Callable[[Sequence[Step], float], bool]
"""Is the last of these steps, which all have the number, beyond the limit?"""

_MEDIAN_OF = 50  # steps before, of which a running median is
_LEAST_OF = 10  # fewer tell nothing
_WINDOW = 10  # steps whose mean reward is compared


@dataclass(frozen=True, slots=True)
class Verdict:
    """A number has left its bounds."""

    guard: str
    action: Literal["warn", "stop", "roll-back"]
    step: int  # when that was certain
    since: int  # the first step of the row that is out of bounds
    why: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What a guard reads, when that is out of bounds, and how it is said."""

    metric: str
    beyond: Beyond
    words: str
    limits: Mapping[str, float] = field(default_factory=dict[str, float])  # of the compute types

    def limit(self, guard: Guard, compute: str) -> float:
        return self.limits[compute] if guard.limit is None else guard.limit


def judge(history: Sequence[Step], guards: Guards, compute: str) -> list[Verdict]:
    """The verdicts that the last step of a history brings; none that an earlier one has brought already.

    Args:
        history: all steps of the stage so far. One that lacks a number counts neither way.
        compute: "fp32" or "bf16", which limits may depend on.
    """
    verdicts: list[Verdict] = []
    for name, guard in _watched(guards).items():
        rule = RULES[name]
        known = [step for step in history if step.get(rule.metric) is not None]
        if not known or known[-1] is not history[-1]:
            continue
        limit = rule.limit(guard, compute)
        row = 0
        while row <= guard.steps and row < len(known) and rule.beyond(known[: len(known) - row], limit):
            row += 1
        if row != guard.steps:  # not yet, or told before
            continue
        step, value = int(known[-1]["step"]), known[-1][rule.metric]
        times = f", and so were the {row - 1} before" if row > 1 else ""
        why = f"{rule.metric} of step {step} is {value:.4g}, {rule.words.format(limit=limit)}{times}"
        verdicts.append(Verdict(name, guard.action, step, int(known[-row]["step"]), why))
    return verdicts


def doubtful(history: Sequence[Step], guards: Guards, compute: str) -> bool:
    """Is the last step beyond the limit of a guard that rolls back? Then its weights are none to go back to."""
    return any(
        history[-1].get(rule.metric) is not None
        and rule.beyond([step for step in history if step.get(rule.metric) is not None], rule.limit(guard, compute))
        for name, guard in _watched(guards).items()
        if guard.action == "roll-back"
        for rule in [RULES[name]]
    )


def may_roll_back(guards: Guards) -> bool:
    """Is there a guard that rolls back, in a stage that allows it at all?"""
    actions = [guards.non_finite, *(guard.action for guard in _watched(guards).values())]
    return guards.rollbacks > 0 and "roll-back" in actions


def _watched(guards: Guards) -> dict[str, Guard]:
    """Those that are not switched off."""
    named = {name: getattr(guards, name) for name in RULES if name in type(guards).model_fields}
    return {name: guard for name, guard in named.items() if guard.action != "off"}


def _above(metric: str) -> Beyond:
    return lambda known, limit: not known[-1][metric] <= limit  # so is what is not finite


def _running_median(known: Sequence[Step], metric: str) -> float | None:
    """Of the steps before the last one. Those where it is 0 are left out: they computed nothing."""
    before = [step[metric] for step in known[:-1] if step[metric] and math.isfinite(step[metric])][-_MEDIAN_OF:]
    return median(before) if len(before) >= _LEAST_OF else None


def _grad_norm(known: Sequence[Step], limit: float) -> bool:
    usual = _running_median(known, "grad_norm")
    return usual is not None and not known[-1]["grad_norm"] <= limit * usual


def _length(known: Sequence[Step], limit: float) -> bool:
    usual = _running_median(known, "length")
    return usual is not None and not usual / limit <= known[-1]["length"] <= usual * limit


def _reward(known: Sequence[Step], limit: float) -> bool:
    """Is the mean of the last ten steps below the best mean of any ten, by so many standard errors of the difference?

    The spread of single steps is taken from neighbours' differences, which a trend hardly touches.
    """
    rewards = [step["reward"] for step in known]
    if len(rewards) < 2 * _WINDOW:
        return False
    means = [fmean(rewards[i : i + _WINDOW]) for i in range(len(rewards) - _WINDOW + 1)]
    variance = fmean([(b - a) ** 2 for a, b in pairwise(rewards)]) / 2.0
    return max(means) - means[-1] > limit * (2.0 * variance / _WINDOW) ** 0.5


_DIFFER = "above {limit:g}: sampler and learner do not compute the same model"
RULES: Mapping[str, Rule] = {
    "grad_norm": Rule("grad_norm", _grad_norm, "more than {limit:g} times its running median"),
    "kl": Rule("kl", _above("kl"), "above {limit:g} nats a token"),
    "entropy": Rule("entropy", lambda known, limit: known[-1]["entropy"] < limit, "below {limit:g} nats a token"),
    "clipped": Rule("clipped", _above("clipped"), "above {limit:g} of the tokens"),
    "mismatch": Rule("mismatch", _above("mismatch"), _DIFFER, {"fp32": 1e-4, "bf16": 0.2}),
    "mismatch_max": Rule("mismatch_max", _above("mismatch_max"), _DIFFER, {"fp32": 1e-3, "bf16": 3.0}),
    "length": Rule("length", _length, "more than {limit:g} times its running median, or less than one over that"),
    "reward": Rule("reward", _reward, "its mean of 10 steps {limit:g} standard errors below the best of any ten"),
    "credit": Rule(
        "credit", lambda known, limit: known[-1]["credit"] < -limit, "below -{limit:g}: credit goes against the reward"
    ),
    "spread": Rule(
        "zero_spread_groups",
        lambda known, limit: known[-1]["zero_spread_groups"] >= limit,
        "{limit:g} or more: in so many groups all answers earned the same, and nothing can be learned",
    ),
    "failed": Rule("failed_share", _above("failed_share"), "above {limit:g} of the samples"),
}
