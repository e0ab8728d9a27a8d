"""The two forwards of sampling: prompts into pages, and one more token for every sequence out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from tutelage.engines.pages import PAGE, PagePool, pages_for
from tutelage.models.lean import LeanModel


@dataclass(slots=True)
class Prefilled:
    """A prompt whose keys are in the pool, but for those that do not fill a page."""

    length: int
    pages: list[int]  # full, shared by all of the prompt's completions
    tail: Tensor  # [layers, 2, key heads, PAGE, D]: what is left, for the first page of each completion's own
    logits_V: Tensor  # of the token after the prompt


class Decoder(Protocol):
    """Prompts into pages, and one more token for every sequence. All decoders are interchangeable."""

    def prefill(self, prompts: Sequence[tuple[int, ...]], pages: Sequence[list[int]]) -> list[Prefilled]:
        """All prompts' keys, and the logits of what comes next. `pages[i]`: as many as prompt i fills, in order.

        One more page a prompt is free in the pool.
        """
        ...

    def step(self, tokens_B: Tensor, positions_B: Tensor, pages_BW: Tensor) -> Tensor:
        """Takes each sequence's last token into its pages and predicts the next.

        Args:
            tokens_B: [B] int64, the last tokens, whose keys are not in the pages yet.
            positions_B: [B] int64, how many keys are: the new one goes to page `pages_BW[b, positions_B[b] // PAGE]`,
                place `positions_B[b] % PAGE`.
            pages_BW: [B, W] int64, each sequence's pages in order, padded with page 0.

        Returns:
            logits_BV: [B, V], in the module's type or in fp32; good until the next step.
        """
        ...

    def refresh(self) -> None:
        """The module's weights have changed: whatever was derived from them is made again."""
        ...

    def outdated(self, version: int) -> str | None:
        """A weight of which it holds a copy that differs, by its name; None where it finds none.

        Args:
            version: of the weights. Each looks at other places, so that in time every place is looked at.
        """
        ...


class EagerDecoder:
    """Plain torch, on the module's own tensors.

    Query, key and value weights stay apart, gate and up too: fused they are no faster here (docs/architecture.md).
    """

    def __init__(self, module: PreTrainedModel, pool: PagePool) -> None:
        self.model, self.pool = LeanModel(module), pool

    def refresh(self) -> None:
        """Nothing is derived from the weights."""

    def outdated(self, version: int) -> str | None:
        return None

    def prefill(self, prompts: Sequence[tuple[int, ...]], pages: Sequence[list[int]]) -> list[Prefilled]:
        batch = _Prefill(self.model, self.pool, prompts, pages)
        positions_BT = batch.places_T.expand_as(batch.tokens_BT)
        hidden_BTD = self.model.hidden(batch.tokens_BT, positions_BT, batch.attend)
        last_B = torch.tensor([len(prompt) - 1 for prompt in prompts], device=hidden_BTD.device)
        logits_BV = self.model.logits(hidden_BTD[torch.arange(len(prompts), device=hidden_BTD.device), last_B])
        tails = torch.stack(batch.tails).unflatten(0, (-1, 2))  # [layers, 2, B, J, PAGE, D]
        return [
            Prefilled(len(prompt), own, tails[:, :, row], logits_BV[row])
            for row, (prompt, own) in enumerate(zip(prompts, pages, strict=True))
        ]

    def step(self, tokens_B: Tensor, positions_B: Tensor, pages_BW: Tensor) -> Tensor:
        view = _View(self.model, self.pool, positions_B, pages_BW)
        hidden_B1D = self.model.hidden(tokens_B[:, None], positions_B[:, None], view.attend)
        return self.model.logits(hidden_B1D[:, 0])


class _View:
    """What the sequences of one step see: the same pages and the same mask in every layer."""

    def __init__(self, model: LeanModel, pool: PagePool, positions_B: Tensor, pages_BW: Tensor) -> None:
        self.model, self.pool, self.positions_B = model, pool, positions_B
        device, heads = pages_BW.device, model.key_heads
        self.page_B = pages_BW.gather(1, (positions_B // PAGE)[:, None])[:, 0]
        self.place_B = positions_B % PAGE
        # A page's heads are rows of their own, so that one copy brings a sequence's keys into the order of the product.
        self.rows = (pages_BW[:, None, :] * heads + torch.arange(heads, device=device)[:, None]).flatten()
        self.places_T = torch.arange(pages_BW.shape[1] * PAGE, device=device)
        self.unseen_B11T = (self.places_T > positions_B[:, None])[:, None, None]

    def attend(
        self, layer: int, query_B1HD: Tensor, key_B1JD: Tensor, value_B1JD: Tensor, window: int | None
    ) -> Tensor:
        keys_BJTD = self._take_in(self.pool.cache[layer, 0], key_B1JD[:, 0])
        values_BJTD = self._take_in(self.pool.cache[layer, 1], value_B1JD[:, 0])
        # The query heads that share a key head are rows of one product, so keys are not repeated.
        query_BJRD = query_B1HD.view(len(query_B1HD), self.model.key_heads, -1, self.model.width)
        scores_BJRT = (query_BJRD * self.model.width**-0.5) @ keys_BJTD.transpose(2, 3)
        unseen_B11T = self.unseen_B11T
        if window is not None and window < len(self.places_T):
            unseen_B11T = unseen_B11T | (self.places_T <= self.positions_B[:, None] - window)[:, None, None]
        scores_BJRT = scores_BJRT.float().masked_fill_(unseen_B11T, float("-inf"))
        return (scores_BJRT.softmax(-1).to(values_BJTD.dtype) @ values_BJTD).view(len(query_B1HD), 1, -1)

    def _take_in(self, cache: Tensor, new_BJD: Tensor) -> Tensor:
        """Writes the new keys (or values) to their places; returns all of each sequence's, [B, J, T, D]."""
        cache[self.page_B, :, self.place_B] = new_BJD
        gathered = cache.view(-1, PAGE * self.model.width).index_select(0, self.rows)
        return gathered.view(len(new_BJD), self.model.key_heads, -1, self.model.width)


class _Prefill:
    """Causal attention over padded prompts, whose keys go to the pool page by page."""

    def __init__(
        self, model: LeanModel, pool: PagePool, prompts: Sequence[tuple[int, ...]], pages: Sequence[list[int]]
    ):
        self.model, self.pool = model, pool
        device = pool.cache.device
        # Padding lies at the end, where causality already hides it, and fills the last page of every prompt.
        chunks = max(pages_for(len(prompt) + 1) for prompt in prompts)
        width = chunks * PAGE
        self.tokens_BT = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts], device=device)
        self.places_T = torch.arange(width, device=device)
        full = [(row * chunks + i, page) for row, own in enumerate(pages) for i, page in enumerate(own)]
        self.chunk_F, self.page_F = torch.tensor(full, dtype=torch.int64, device=device).view(-1, 2).unbind(1)
        self.tail_B = torch.tensor([row * chunks + len(own) for row, own in enumerate(pages)], device=device)
        self.tails: list[Tensor] = []

    def attend(
        self, layer: int, query_BTHD: Tensor, key_BTJD: Tensor, value_BTJD: Tensor, window: int | None
    ) -> Tensor:
        for which, new_BTJD in enumerate((key_BTJD, value_BTJD)):
            chunks_CJPD = new_BTJD.unflatten(1, (-1, PAGE)).flatten(0, 1).transpose(1, 2)
            self.pool.cache[layer, which, self.page_F] = chunks_CJPD[self.chunk_F]
            self.tails.append(chunks_CJPD[self.tail_B])
        mask_TT = None
        if window is not None and window < len(self.places_T):
            distance_TT = self.places_T[:, None] - self.places_T
            mask_TT = (distance_TT >= 0) & (distance_TT < window)
        output_BHTD = F.scaled_dot_product_attention(
            query_BTHD.transpose(1, 2),
            key_BTJD.transpose(1, 2),
            value_BTJD.transpose(1, 2),
            attn_mask=mask_TT,
            is_causal=mask_TT is None,
            enable_gqa=True,
        )
        return output_BHTD.transpose(1, 2).flatten(2)
