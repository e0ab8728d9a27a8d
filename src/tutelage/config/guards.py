"""Guard-rails: numbers of a training stage that are watched, how far they may go, and what is done beyond."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from tutelage.config.part import Part

Action = Literal["off", "warn", "stop", "roll-back"]


class Guard(Part):
    """One of them. In a recipe a number alone is its limit, a word alone its action."""

    limit: NonNegativeFloat | None = None  # None: that of the compute type, where bf16 has another than fp32
    action: Action
    steps: PositiveInt = 1  # in a row beyond the limit before anything is done


def _over(default: Guard) -> BeforeValidator:
    """What a recipe gives over the default, key by key."""

    def merged(given: object) -> object:
        if isinstance(given, (bool, Part)):
            return given
        if isinstance(given, (int, float)):
            given = {"limit": given}
        elif isinstance(given, str):
            given = {"action": given}
        if isinstance(given, Mapping):
            return {**default.model_dump(), **cast(Mapping[str, Any], given)}
        return given

    return BeforeValidator(merged)


_GRAD_NORM = Guard(limit=10.0, action="warn")
_KL = Guard(limit=2.0, action="roll-back", steps=3)
_ENTROPY = Guard(limit=0.01, action="warn", steps=5)
_CLIPPED = Guard(limit=0.5, action="warn", steps=3)
_MISMATCH = Guard(action="stop")
_MISMATCH_MAX = Guard(action="stop", steps=3)  # one token alone may be rounding; a bug stays
_LENGTH = Guard(limit=3.0, action="warn", steps=3)
_REWARD = Guard(limit=5.0, action="warn")
_CREDIT = Guard(limit=0.5, action="stop", steps=3)
_SPREAD = Guard(limit=1.0, action="warn", steps=5)
_FAILED = Guard(limit=0.1, action="warn", steps=3)


class Guards(Part):
    """Of every stage of a language model that trains. docs/guards.md says where each limit comes from."""

    non_finite: Literal["stop", "roll-back"] = "stop"  # a loss, a gradient, or what these are made of
    grad_norm: Annotated[Guard, _over(_GRAD_NORM)] = _GRAD_NORM  # times its running median
    rollbacks: NonNegativeInt = 3  # so many in a stage; then it stops
    slow_down: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5  # of the learning rate, with each


class RlGuards(Guards):
    """Of reinforcement learning, besides."""

    kl: Annotated[Guard, _over(_KL)] = _KL  # to the reference, nats a token
    entropy: Annotated[Guard, _over(_ENTROPY)] = _ENTROPY  # below it, nats a token
    clipped: Annotated[Guard, _over(_CLIPPED)] = _CLIPPED  # share of the tokens
    mismatch: Annotated[Guard, _over(_MISMATCH)] = _MISMATCH  # sampler and learner, mean difference, nats
    mismatch_max: Annotated[Guard, _over(_MISMATCH_MAX)] = _MISMATCH_MAX  # the largest one
    length: Annotated[Guard, _over(_LENGTH)] = _LENGTH  # times its running median, or one over it
    reward: Annotated[Guard, _over(_REWARD)] = _REWARD  # below the best it was, in standard errors
    credit: Annotated[Guard, _over(_CREDIT)] = _CREDIT  # against the reward: correlation below minus this
    spread: Annotated[Guard, _over(_SPREAD)] = _SPREAD  # share of groups whose answers all earned the same
    failed: Annotated[Guard, _over(_FAILED)] = _FAILED  # share of samples whose reward failed
