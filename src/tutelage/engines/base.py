"""What an engine is: whatever samples. One Protocol, held by one conformance suite (tests/engines)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tutelage.config import Sampling
from tutelage.types import FinishReason

Watch = Callable[[int, int], None]  # finished sequences, generated tokens so far


@dataclass(frozen=True, slots=True)
class Request:
    """`count` completions wanted of one prompt. Completion i draws its noise from (seed, i), and from nothing else."""

    tokens: tuple[int, ...]
    count: int
    seed: int
    most: int | None = None  # tokens of a completion, where that is less than the sampling's max_new_tokens

    def room(self, sampling: Sampling) -> int:
        """The most tokens that a completion may have."""
        return sampling.room(self.most)


@dataclass(slots=True)
class Completion:
    """What an engine returns. The end token, where one was written, is the last of `tokens`.

    `logprobs` are of the distribution actually sampled from (temperature, top-k, top-p, min-p applied). Greedy decoding
    samples from no distribution: there they are the model's own, at temperature 1.
    """

    tokens: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    finish: FinishReason = "length"
    version: int = 0


Finished = Callable[[int, list[Completion]], None]  # a request's number, and all of its completions


class Engine(Protocol):
    """Whatever samples."""

    name: str

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        watch: Watch | None = None,
        finished: Finished | None = None,
    ) -> list[list[Completion]]:
        """The completions of each request, in order.

        Args:
            watch: told how far the call has come, now and then and at its end.
            finished: told a request's number and its completions as soon as the last of them is written: each request
                exactly once, in whatever order they end, on the caller's thread. What it raises ends the call.

        Raises:
            ModelError: a prompt and its completion would not fit into the model's context.
        """
        ...
