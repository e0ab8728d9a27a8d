"""The native engine: decodes straight on the policy's tensors.

A prompt is prefilled once for all its completions, which share the pages it fills. A finished sequence gives its pages
back at once, and a waiting one takes them. A sequence begins when the pages of its worst case are free, so none has
to stop midway.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tutelage.config import Sampling
from tutelage.engines.admission import Arrival, Queue
from tutelage.engines.base import Completion, Finished, Request, Watch
from tutelage.engines.compiled import CompiledDecoder
from tutelage.engines.decoder import Decoder, EagerDecoder
from tutelage.engines.graphs import GraphedDecoder, cuda_capture
from tutelage.engines.pages import PAGE, PagePool, pages_for
from tutelage.engines.sequences import (
    Progress,
    Stopper,
    Writing,
    begin,
    check_fits,
    draw,
    end_tokens,
    noise_for,
    what_fits,
)
from tutelage.errors import GuardError, ModelError
from tutelage.models import Policy
from tutelage.models.lean import LeanModel, fits_kernels

SLOTS = 128  # sequences that are decoded side by side
CACHE_BYTES = 2 << 30  # the pool takes no more memory than this
_CACHE_SHARE = 0.5  # on a GPU: no more than this share of what is free


def decoder_for(policy: Policy, pool: PagePool, compiled: bool = True) -> Decoder:
    """The fastest decoder there is for a policy on this machine."""
    if compiled and fits_kernels(policy.module):
        return CompiledDecoder(policy.module, pool)
    eager = EagerDecoder(policy.module, pool)
    # These two kinds of rotary positions look at the positions on the host, which no recording can.
    recordable = policy.module.base_model.rotary_emb.rope_type not in ("dynamic", "longrope")
    if policy.device.type == "cuda" and recordable:
        return GraphedDecoder(eager, cuda_capture())
    return eager


class NativeEngine:
    """For the families of `models/lean.py`.

    Args:
        slots: how many sequences are decoded side by side.
        cache_bytes: the most memory for keys and values; None: 2 GB, and on a GPU half of what is free.
        compiled: take the compiled step where it serves.
        ahead: the host looks at the tokens of so many steps at once; None: 8 on a GPU, where looking means waiting.
    """

    name = "native"

    def __init__(
        self,
        policy: Policy,
        slots: int = SLOTS,
        cache_bytes: int | None = None,
        ahead: int | None = None,
        compiled: bool = True,
    ) -> None:
        self.policy = policy
        self.model = LeanModel(policy.module)
        self.slots = slots
        self.compiled = compiled
        self.cache_bytes = _cache_bytes(policy.device) if cache_bytes is None else cache_bytes
        self.ahead = (8 if policy.device.type == "cuda" else 1) if ahead is None else ahead
        self.end_tokens = end_tokens(policy.module, policy.tokenizer)
        self.pool: PagePool | None = None
        self.decoder: Decoder | None = None
        self.version = policy.version

    @torch.no_grad()
    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        watch: Watch | None = None,
        finished: Finished | None = None,
    ) -> list[list[Completion]]:
        check_fits(requests, sampling, self.policy.module)
        if not any(request.count for request in requests):
            return [[] for _ in requests]
        stopper = Stopper(self.policy.tokenizer, self.end_tokens, sampling.stop)
        pool, decoder = self._ready(requests, sampling)
        rows, groups = begin(requests, sampling, self.version)  # what the decoder has, whatever the policy says
        progress = Progress(requests, groups, watch, finished)
        queue = Queue(decoder, pool, requests, rows)
        longest = max(len(request.tokens) + request.room(sampling) for request in requests)
        decoding = Decoding(pool, decoder, self.slots, pages_for(longest + self.ahead))
        while queue or decoding.active:
            while arrivals := queue.admit(self.slots - len(decoding.active)):
                progress.tell(decoding.admit(arrivals, sampling, stopper))
            assert decoding.active or not queue, "a sequence waits for pages that nobody holds"
            progress.tell(decoding.advance(self.ahead, sampling, stopper))
        return groups

    def _ready(self, requests: Sequence[Request], sampling: Sampling) -> tuple[PagePool, Decoder]:
        """The pool, large enough for these requests or as large as may be, all of it free; and the decoder over it."""
        model, dtype = self.model, self.policy.compute
        layers = len(model.body.layers)
        page_bytes = layers * 2 * model.key_heads * PAGE * model.width * dtype.itemsize
        affordable = self.cache_bytes // page_bytes - 1  # page 0 is nobody's
        largest = max(requests, key=lambda request: len(request.tokens) + request.room(sampling))
        longest, room = len(largest.tokens), largest.room(sampling)
        if pages_for(longest + room) > affordable:
            raise ModelError(
                f"a prompt of {longest} tokens and max_new_tokens = {room} need "
                f"{pages_for(longest + room) * page_bytes >> 20} MB of keys and values, and there are "
                f"{self.cache_bytes >> 20} MB: {what_fits(longest, affordable * PAGE)}"
            )
        pages = min(affordable, most_pages(requests, sampling, self.slots)) + 1
        if self.pool is None or self.decoder is None or self.pool.cache.shape[2] < pages:
            self.pool = self.decoder = None  # before the larger one is made: both need not fit
            self.pool = PagePool(layers, model.key_heads, model.width, pages, dtype, self.policy.device)
            self.decoder, self.version = decoder_for(self.policy, self.pool, self.compiled), self.policy.version
        elif self.version != self.policy.version:
            self.decoder.refresh()
            self.version = self.policy.version
        if (weight := self.decoder.outdated(self.version)) is not None:
            raise GuardError(
                f"the sampler's packed copy of {weight} is not the policy's weight, version {self.version}: it would "
                "sample from an older model. TUTELAGE_KERNELS=off samples on the policy's own weights"
            )
        self.pool.reset()  # a call that was interrupted has kept its pages
        return self.pool, self.decoder


def _cache_bytes(device: torch.device) -> int:
    return int(torch.cuda.mem_get_info(device)[0] * _CACHE_SHARE) if device.type == "cuda" else CACHE_BYTES


def most_pages(requests: Sequence[Request], sampling: Sampling, slots: int) -> int:
    """Pages for as many sequences as there are slots, the largest ones, and for the prompts they share."""
    full = sorted((len(request.tokens) // PAGE for request in requests), reverse=True)
    side_by_side = slots // max(1, min(request.count for request in requests)) + 2  # prompts with a sequence in a slot
    own = max(pages_for(len(r.tokens) + r.room(sampling)) - len(r.tokens) // PAGE for r in requests)
    return sum(full[:side_by_side]) + own * min(slots, sum(request.count for request in requests))


class Decoding:
    """Who writes, and some more tokens for all of them. Active sequences are always the first rows of the table."""

    def __init__(self, pool: PagePool, decoder: Decoder, slots: int, pages: int) -> None:
        self.pool, self.decoder = pool, decoder
        self.device = pool.cache.device
        self.active: list[Arrival] = []
        self.lengths: list[int] = []  # keys of each active sequence
        self.last: list[int] = []  # the token that each wrote last, whose key is not in its pages yet
        self.table_SW = torch.zeros(slots, pages, dtype=torch.int64)

    def admit(self, arrivals: Sequence[Arrival], sampling: Sampling, stopper: Stopper) -> list[Writing]:
        """Draws the first token of each arrival and gives it a row. Returns those that are finished already."""
        first = len(self.active)
        for row, arrival in enumerate(arrivals, start=first):
            self.table_SW[row] = 0
            self.table_SW[row, : len(arrival.pages)] = torch.tensor(arrival.pages)
            self.active.append(arrival)
            self.lengths.append(arrival.prompt.length)
            self.last.append(0)
        tails = torch.stack([arrival.prompt.tail for arrival in arrivals], 2)
        self.pool.cache[:, :, [arrival.pages[len(arrival.prompt.pages)] for arrival in arrivals]] = tails
        noise_1B = noise_for([arrival.writing for arrival in arrivals], 1, self.device)
        logits_BV = torch.stack([arrival.prompt.logits_V for arrival in arrivals])
        return self._append(first, [draw(logits_BV, noise_1B[0], sampling)], stopper)

    def advance(self, steps: int, sampling: Sampling, stopper: Stopper) -> list[Writing]:
        """So many more tokens for every active sequence. Returns the finished ones.

        Nothing in here waits for the device before the last step is queued. A sequence that ends on the way writes on
        until then, at last into page 0, which is nobody's; what it wrote past its end is dropped.
        """
        writing = [arrival.writing for arrival in self.active]
        if not writing:
            return []
        steps = min(steps, max(w.limit - len(w.completion.tokens) for w in writing))
        noise_SB = noise_for(writing, steps, self.device)
        tokens_B = torch.tensor(self.last, device=self.device)
        positions_B = torch.tensor(self.lengths, device=self.device)
        pages_BW = self.table_SW[: len(writing), : pages_for(max(self.lengths) + steps)].to(self.device)
        drawn: list[tuple[Tensor, Tensor]] = []
        for uniform_B in noise_SB:
            logits_BV = self.decoder.step(tokens_B, positions_B, pages_BW)
            tokens_B, logprobs_B = draw(logits_BV, uniform_B, sampling)
            drawn.append((tokens_B, logprobs_B))
            positions_B = positions_B + 1
        self.lengths = [length + steps for length in self.lengths]
        return self._append(0, drawn, stopper)

    def _append(self, first: int, drawn: Sequence[tuple[Tensor, Tensor]], stopper: Stopper) -> list[Writing]:
        """Takes the tokens of the rows from `first` on; finished sequences leave, the last ones take their rows."""
        tokens_BS = torch.stack([tokens_B for tokens_B, _ in drawn], 1).tolist()
        logprobs_BS = torch.stack([logprobs_B for _, logprobs_B in drawn], 1).tolist()
        ended: list[int] = []
        for row, (tokens, logprobs) in enumerate(zip(tokens_BS, logprobs_BS, strict=True), start=first):
            writing = self.active[row].writing
            self.last[row] = tokens[-1]
            if any(writing.append(token, logprob, stopper) for token, logprob in zip(tokens, logprobs, strict=True)):
                ended.append(row)
        finished = [self.active[row].writing for row in ended]
        for row in reversed(ended):
            end = len(self.active) - 1
            self.pool.release(self.active[row].pages)
            self.table_SW[row] = self.table_SW[end]
            for column in (self.active, self.lengths, self.last):
                column[row] = column[end]
                column.pop()
        return finished
