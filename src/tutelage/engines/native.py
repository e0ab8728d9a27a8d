"""The native engine: decodes straight on the policy's tensors.

A prompt is prefilled once for all its completions. Keys and values live in slots allocated beforehand; a finished
sequence leaves its slot at once and a waiting one takes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.config import Sampling
from tutelage.engines.base import Completion, Finished, Request, Watch
from tutelage.engines.lean import LeanModel
from tutelage.engines.sequences import Progress, Stopper, Writing, begin, check_fits, draw, end_tokens
from tutelage.models import Policy

_PREFILL_TOKENS = 4096  # prompts are prefilled in portions of about this many tokens
_CACHE_BYTES = 2 << 30  # the slots take no more memory than this, but for one sequence at least


@dataclass(frozen=True, slots=True)
class Prefilled:
    """One prompt: its keys and values, [layers, 2, key heads, P, D], and the logits of its last token, [V]."""

    cache: Tensor
    logits_V: Tensor

    @property
    def length(self) -> int:
        return self.cache.shape[3]


class NativeEngine:
    """For the families of `engines/lean.py`."""

    name = "native"

    def __init__(self, policy: Policy, slots: int = 128) -> None:
        self.policy = policy
        self.model = LeanModel(policy.module)
        self.slots = slots
        self.end_tokens = end_tokens(policy.module, policy.tokenizer)

    @torch.no_grad()
    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        watch: Watch | None = None,
        finished: Finished | None = None,
    ) -> list[list[Completion]]:
        check_fits(requests, sampling, self.policy.module)
        stopper = Stopper(self.policy.tokenizer, self.end_tokens, sampling.stop)
        rows, groups = begin(requests, sampling, self.policy.version)
        longest = max((len(request.tokens) for request in requests), default=0) + sampling.max_new_tokens
        decoding = Decoding(self, min(self.slots, len(rows)), longest, sampling, stopper)
        progress = Progress(requests, groups, watch, finished)
        waiting = deque(rows)
        ready: deque[tuple[Writing, Prefilled]] = deque()
        while waiting or ready or decoding.active:
            while decoding.free and (waiting or ready):
                if not ready:
                    ready.extend(self._prefill(requests, waiting, decoding.free))
                progress.tell(decoding.admit([ready.popleft() for _ in range(min(decoding.free, len(ready)))]))
            progress.tell(decoding.step())
        return groups

    def _prefill(
        self, requests: Sequence[Request], waiting: deque[Writing], wanted: int
    ) -> list[tuple[Writing, Prefilled]]:
        """Takes whole groups off the queue until they fill the wanted slots or the portion; prefills their prompts."""
        taken: dict[int, list[Writing]] = {}
        tokens = 0
        while waiting and (
            waiting[0].request in taken
            or not taken
            or (wanted > sum(map(len, taken.values())) and tokens < _PREFILL_TOKENS)
        ):
            number = waiting[0].request
            if number not in taken:
                taken[number] = []
                tokens += len(requests[number].tokens)
            taken[number].append(waiting.popleft())
        prompts = self._prefill_prompts([requests[number].tokens for number in taken])
        return [(w, prompt) for group, prompt in zip(taken.values(), prompts, strict=True) for w in group]

    def _prefill_prompts(self, prompts: Sequence[tuple[int, ...]]) -> list[Prefilled]:
        model, device = self.model, self.policy.device
        lengths = [len(prompt) for prompt in prompts]
        tokens_BT = torch.zeros(len(prompts), max(lengths), dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            tokens_BT[row, : len(prompt)] = torch.tensor(prompt)
        tokens_BT = tokens_BT.to(device)
        positions_BT = torch.arange(max(lengths), device=device).expand_as(tokens_BT)
        kept: list[Tensor] = []

        def attend(layer: int, query_BTHD: Tensor, key_BTJD: Tensor, value_BTJD: Tensor, window: int | None) -> Tensor:
            # Padding lies at the end, where causality already hides it.
            key_BJTD, value_BJTD = key_BTJD.transpose(1, 2), value_BTJD.transpose(1, 2)
            kept.append(torch.stack((key_BJTD, value_BJTD)))
            mask_TT = None
            if window is not None and window < max(lengths):
                place_T = positions_BT[0]
                distance_TT = place_T[:, None] - place_T[None]
                mask_TT = (distance_TT >= 0) & (distance_TT < window)
            output_BHTD = F.scaled_dot_product_attention(
                query_BTHD.transpose(1, 2),
                key_BJTD,
                value_BJTD,
                attn_mask=mask_TT,
                is_causal=mask_TT is None,
                enable_gqa=True,
            )
            return output_BHTD.transpose(1, 2).flatten(2)

        hidden_BTD = model.hidden(tokens_BT, positions_BT, attend)
        last_BD = hidden_BTD[torch.arange(len(prompts)), torch.tensor(lengths) - 1]
        logits_BV = model.logits(last_BD)
        cache = torch.stack(kept)  # [layers, 2, B, J, T, D]
        return [Prefilled(cache[:, :, row, :, :length], logits_BV[row]) for row, length in enumerate(lengths)]


class Decoding:
    """The slots of one call: who writes where, and one step for all of them. Active slots are always the first ones."""

    def __init__(self, engine: NativeEngine, slots: int, longest: int, sampling: Sampling, stopper: Stopper) -> None:
        self.model, self.sampling, self.stopper = engine.model, sampling, stopper
        self.device, dtype = engine.policy.device, engine.policy.compute
        model = self.model
        per_slot = len(model.body.layers) * 2 * model.key_heads * longest * model.width
        slots = max(1, min(slots, _CACHE_BYTES // (per_slot * dtype.itemsize)))
        # [layers, 2, slots, J, T, D]. Zeros: an unseen key weighs 0, and 0 times what lay in that memory could be NaN.
        self.cache = torch.zeros(
            len(model.body.layers), 2, slots, model.key_heads, longest, model.width, dtype=dtype, device=self.device
        )
        self.active: list[Writing] = []
        self.lengths: list[int] = []  # keys in each active slot
        self.last: list[int] = []  # the token that each active sequence wrote last, not yet in the cache

    @property
    def free(self) -> int:
        return self.cache.shape[2] - len(self.active)

    def admit(self, arrivals: Sequence[tuple[Writing, Prefilled]]) -> list[Writing]:
        """Draws the first token of each arrival and gives it a slot. Returns those that are finished already."""
        if not arrivals:
            return []
        first = len(self.active)
        for slot, (writing, prompt) in enumerate(arrivals, start=first):
            self.cache[:, :, slot, :, : prompt.length] = prompt.cache
            self.active.append(writing)
            self.lengths.append(prompt.length)
        return self._append(first, torch.stack([prompt.logits_V for _, prompt in arrivals]))

    def step(self) -> list[Writing]:
        """One more token for every active sequence. Returns the finished ones."""
        if not self.active:
            return []
        lengths_B = torch.tensor(self.lengths, device=self.device)
        tokens_B1 = torch.tensor(self.last, device=self.device)[:, None]
        hidden_B1D = self.model.hidden(tokens_B1, lengths_B[:, None], self._attend(lengths_B))
        self.lengths = [length + 1 for length in self.lengths]
        return self._append(0, self.model.logits(hidden_B1D[:, 0]))

    def _attend(self, lengths_B: Tensor):
        active, width = len(self.active), max(self.lengths) + 1
        rows_B = torch.arange(active, device=self.device)
        places_T = torch.arange(width, device=self.device)
        hidden_B11T = (places_T > lengths_B[:, None])[:, None, None]

        def attend(layer: int, query_B1HD: Tensor, key_B1JD: Tensor, value_B1JD: Tensor, window: int | None) -> Tensor:
            keys_SJTD, values_SJTD = self.cache[layer]
            keys_SJTD[rows_B, :, lengths_B] = key_B1JD[:, 0]
            values_SJTD[rows_B, :, lengths_B] = value_B1JD[:, 0]
            keys_BJTD, values_BJTD = keys_SJTD[:active, :, :width], values_SJTD[:active, :, :width]
            # The query heads that share a key head are rows of one product, so keys are not repeated.
            query_BJRD = query_B1HD.view(active, self.model.key_heads, -1, self.model.width)
            scores_BJRT = (query_BJRD * self.model.width**-0.5) @ keys_BJTD.transpose(2, 3)
            unseen_B11T = hidden_B11T
            if window is not None and window < width:
                unseen_B11T = unseen_B11T | (places_T <= lengths_B[:, None] - window)[:, None, None]
            scores_BJRT = scores_BJRT.float().masked_fill_(unseen_B11T, float("-inf"))
            return (scores_BJRT.softmax(-1).to(values_BJTD.dtype) @ values_BJTD).view(active, 1, -1)

        return attend

    def _append(self, first: int, logits_BV: Tensor) -> list[Writing]:
        """Draws a token for the slots from `first` on; finished sequences leave, the last ones take their slots."""
        writing = self.active[first:]
        tokens, logprobs = draw(logits_BV, writing, self.sampling)
        self.last[first:] = tokens
        ended = [
            slot
            for slot, (w, token, logprob) in enumerate(zip(writing, tokens, logprobs, strict=True), start=first)
            if w.append(token, logprob, self.stopper)
        ]
        finished = [self.active[slot] for slot in ended]
        for slot in reversed(ended):
            end = len(self.active) - 1
            if slot != end:
                self.cache[:, :, slot, :, : self.lengths[end]] = self.cache[:, :, end, :, : self.lengths[end]]
            for column in (self.active, self.lengths, self.last):
                column[slot] = column[end]
                column.pop()
        return finished
