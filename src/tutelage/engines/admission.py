"""Who begins to write, and when: prompts are prefilled in their turn, as slots and pages become free."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import takewhile

from tutelage.engines.base import Request
from tutelage.engines.decoder import Decoder, Prefilled
from tutelage.engines.pages import PAGE, PagePool, pages_for
from tutelage.engines.sequences import Writing

_PREFILL_TOKENS = 4096  # prompts are prefilled in portions of about this many tokens


class Arrival:
    """A sequence that begins: its pages are its own from now on, the first of them being the prompt's."""

    __slots__ = ("pages", "prompt", "writing")

    def __init__(self, writing: Writing, prompt: Prefilled, own: list[int]) -> None:
        self.writing, self.prompt = writing, prompt
        self.pages = [*prompt.pages, *own]


class Queue:
    """The sequences that have not begun, in order. Prompts are prefilled when their turn comes."""

    def __init__(self, decoder: Decoder, pool: PagePool, requests: Sequence[Request], rows: Sequence[Writing]) -> None:
        self.decoder, self.pool, self.requests = decoder, pool, requests
        self.waiting = deque(rows)
        self.ready: deque[tuple[Writing, Prefilled]] = deque()

    def __bool__(self) -> bool:
        return bool(self.waiting or self.ready)

    def admit(self, slots: int) -> list[Arrival]:
        """The next sequences, as many as slots and pages are free."""
        arrivals: list[Arrival] = []
        while len(arrivals) < slots and (self.ready or self._prefill(slots - len(arrivals))):
            writing, prompt = self.ready[0]
            own = pages_for(prompt.length + writing.limit) - len(prompt.pages)
            if own > len(self.pool.free):
                break
            self.ready.popleft()
            if self.ready and self.ready[0][1] is prompt:
                self.pool.share(prompt.pages)  # the last completion takes over what the queue itself has held
            arrivals.append(Arrival(writing, prompt, self.pool.take(own)))
        return arrivals

    def _prefill(self, wanted: int) -> bool:
        """Prefills whole groups off the queue, until they fill the wanted slots, the free pages or the portion.

        Only the last of them may have to wait for pages: for its first completion there are enough, so with nobody else
        writing there are enough for all of them, one after the other.
        """
        groups: list[list[Writing]] = []
        free, tokens, sequences = len(self.pool.free), 0, 0
        while self.waiting and sequences < wanted and tokens < _PREFILL_TOKENS:
            number = self.waiting[0].request
            length = len(self.requests[number].tokens)
            own = pages_for(length + self.waiting[0].limit) - length // PAGE
            if length // PAGE + own > free:
                break
            group = list(takewhile(lambda w, number=number: w.request == number, self.waiting))
            for _ in group:
                self.waiting.popleft()
            groups.append(group)
            free -= length // PAGE + own * len(group)
            tokens += length
            sequences += len(group)
        if groups:
            prompts = [self.requests[group[0].request].tokens for group in groups]
            pages = [self.pool.take(len(prompt) // PAGE) for prompt in prompts]
            prefilled = self.decoder.prefill(prompts, pages)
            self.ready.extend((w, prompt) for group, prompt in zip(groups, prefilled, strict=True) for w in group)
        return bool(groups)
