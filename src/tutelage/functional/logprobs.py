"""Log-probabilities of tokens, under the very transform of the logits that sampled them.

The sampler and the learner call the same `transform_logits`: a ratio between a truncated or tempered sampler
and a raw learner is biased. Suffix R: rows, any set of positions that are scored or sampled together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.config import Sampling

ROWS: Final = 512  # actions whose logits exist at once: at least so many, fewer than twice as many
BLOCK: Final = 128  # tokens; most models' vocabularies are multiples of it and need no padding
# A filtered token's log-probability in sums over the vocabulary: 0 * -inf is nan, in the value and in the gradient, and
# the smallest finite number times an entropy bonus above 1 would be -inf again.
_FILTERED: Final = -1e30
_CACHED: Final = 1 << 20  # numbers that a pass over a block of logits finds in the cache


def at_least_fp32(values: Tensor) -> Tensor:
    """bf16 and fp16 become fp32; fp32 and fp64 stay."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def transform_logits(
    logits_RV: Tensor,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    keep_R: Tensor | None = None,
) -> Tensor:
    """The logits of the distribution that is sampled from: tempered, then filtered (to -inf).

    The order is transformers': temperature, top-k, top-p over what top-k left, min-p (2407.01082). vLLM
    applies min-p before top-p, which differs only where both are on. Every filter is a floor on the logit, so
    tokens tied with the last one kept are kept too, whatever the order of a sort. The vocabulary is sorted
    only for top-p without top-k.

    Args:
        logits_RV: [R, V] raw logits, any float type.
        temperature: divides the logits; must be above 0, greedy choice is the caller's argmax.
        top_k: keep the k most probable tokens; 0: off.
        top_p: keep the smallest set of most probable tokens whose mass reaches top_p; 1: off.
        min_p: keep tokens at least min_p times as probable as the most probable one; 0: off.
        keep_R: [R] int64 token ids that are never filtered. The learner passes the sampled tokens: a token
            that fell out of its own filter by rounding, or by an update, then has a finite log-probability
            instead of -inf.

    Returns:
        [R, V] in fp32 (fp64 stays). Filtered entries carry no gradient.
    """
    assert logits_RV.ndim == 2, logits_RV.shape
    if temperature <= 0.0:
        raise ValueError(f"temperature {temperature}: must be above 0; take the argmax for greedy choice")
    logits_RV = at_least_fp32(logits_RV)
    if temperature != 1.0:
        logits_RV = logits_RV / temperature
    floor_R1 = _floor(logits_RV.detach(), top_k, top_p, min_p)
    if floor_R1 is None:
        return logits_RV
    filtered_RV = logits_RV.detach() < floor_R1
    if keep_R is not None:
        assert keep_R.shape == logits_RV.shape[:1], (keep_R.shape, logits_RV.shape)
        filtered_RV.scatter_(1, keep_R[:, None], False)
    return logits_RV.masked_fill(filtered_RV, -math.inf)


def _floor(logits_RV: Tensor, top_k: int, top_p: float, min_p: float) -> Tensor | None:
    """[R, 1] the smallest logit that every filter keeps; None where all are off."""
    floor_R1, ranked_RK = None, None
    if 0 < top_k < logits_RV.shape[1]:
        ranked_RK = logits_RV.topk(top_k).values
        floor_R1 = ranked_RK[:, -1:]
    if top_p < 1.0:
        if ranked_RK is None:
            ranked_RK = logits_RV.sort(descending=True).values
        probs_RK = ranked_RK.softmax(-1)
        before_RK = probs_RK.cumsum(-1) - probs_RK  # 0 for the most probable token, so one is always kept
        kept_R1 = (before_RK < top_p).sum(-1, keepdim=True)
        floor_R1 = ranked_RK.gather(1, kept_R1 - 1)
    if min_p > 0.0:
        least_R1 = logits_RV.amax(-1, keepdim=True) + math.log(min_p)
        floor_R1 = least_R1 if floor_R1 is None else torch.maximum(floor_R1, least_R1)
    return floor_R1


def gather_logprobs(logits_RV: Tensor, targets_R: Tensor) -> Tensor:
    """[R] log-probability of each target token, in nats, in fp32 (fp64 stays)."""
    assert targets_R.shape == logits_RV.shape[:1], (targets_R.shape, logits_RV.shape)
    return at_least_fp32(logits_RV).log_softmax(-1).gather(1, targets_R[:, None])[:, 0]


def entropy(logits_RV: Tensor) -> Tensor:
    """[R] entropy of each row, in nats, in fp32 (fp64 stays). Filtered tokens (-inf) add nothing."""
    assert logits_RV.ndim == 2, logits_RV.shape
    logprobs_RV = at_least_fp32(logits_RV).log_softmax(-1).clamp(min=_FILTERED)
    return -(logprobs_RV.exp() * logprobs_RV).sum(-1)


@dataclass(frozen=True, slots=True)
class Head:
    """A language-model head: hidden states [R, D] to logits [R, V], with Gemma 2's soft cap where there is one."""

    weight_VD: Tensor
    bias_V: Tensor | None = None
    softcap: float | None = None

    def logits(self, hidden_RD: Tensor) -> Tensor:
        """[R, V] in fp32 (fp64 stays), all at once, by operations that can be differentiated twice."""
        logits_RV = at_least_fp32(F.linear(hidden_RD, self.weight_VD, self.bias_V))
        return logits_RV if self.softcap is None else torch.tanh(logits_RV / self.softcap) * self.softcap

    def of(self, tokens_C: Tensor) -> Head:
        """The head of these tokens alone, in fp32 (fp64 stays): in bf16 close choices would be rounded to ties."""
        bias_C = None if self.bias_V is None else at_least_fp32(self.bias_V[tokens_C])
        return Head(at_least_fp32(self.weight_VD[tokens_C]), bias_C, self.softcap)


def chunked_logprobs(
    hidden_AD: Tensor,
    head: Head,
    targets_A: Tensor,
    sampling: Sampling | None = None,
    rows: int = ROWS,
    entropy_grad: bool = False,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies of actions from hidden states; the [A, V] logits never exist at once.

    The backward pass computes each chunk's logits again (Chen et al., 1604.06174) and turns them, in place, into
    their gradient: four products with the vocabulary, and two chunks of memory.

    Args:
        hidden_AD: [A, D] the hidden state that predicts each action.
        head: its weight may be tied to the embedding; hidden states, weight and bias receive gradients.
        targets_A: [A] int64, the actions' token ids.
        sampling: how the sampler transformed its logits; None: not at all.
        rows: chunks hold at least this many actions and fewer than twice as many.
        entropy_grad: whether the entropy carries a gradient, as an entropy bonus needs.

    Returns:
        logprobs_A, entropy_A: [A] each, in fp32 (fp64 stays).
    """
    assert hidden_AD.ndim == 2, hidden_AD.shape
    assert targets_A.shape == hidden_AD.shape[:1], (targets_A.shape, hidden_AD.shape)
    scoring = _Scoring(head.softcap, sampling or Sampling(), rows, entropy_grad)
    return _Score.apply(hidden_AD, head.weight_VD, head.bias_V, targets_A, scoring)  # pyright: ignore


@torch.no_grad()
def likeliest(hidden_AD: Tensor, head: Head, rows: int = ROWS) -> Tensor:
    """[A] int64 the token that each hidden state finds most likely, of equals the first. Chunks as above.

    A soft cap changes no order and is left out.
    """
    assert hidden_AD.ndim == 2, hidden_AD.shape
    tokens_A = torch.empty(len(hidden_AD), dtype=torch.int64, device=hidden_AD.device)
    for chunk, logits_RV in _chunks(hidden_AD, head.weight_VD, head.bias_V, rows):
        torch.argmax(logits_RV, -1, out=tokens_A[chunk])
    return tokens_A


@torch.no_grad()
def top_entropy(hidden_AD: Tensor, head: Head, top: int, rows: int = ROWS) -> Tensor:
    """[A] entropy of the next token as if only the `top` likeliest ones existed, in nats, in fp32 (fp64 stays).

    With as many as there are tokens it is the entropy itself, and never above it. Chunks as above.
    """
    assert hidden_AD.ndim == 2, hidden_AD.shape
    assert top > 0, top
    entropy_A = hidden_AD.new_empty(len(hidden_AD), dtype=torch.promote_types(hidden_AD.dtype, torch.float32))
    for chunk, logits_RV in _chunks(hidden_AD, head.weight_VD, head.bias_V, rows):
        logits_RK = at_least_fp32(logits_RV.topk(min(top, logits_RV.shape[1])).values)
        if head.softcap is not None:
            logits_RK = torch.tanh(logits_RK / head.softcap) * head.softcap
        entropy_A[chunk] = entropy(logits_RK)
    return entropy_A


@dataclass(frozen=True, slots=True)
class _Scoring:
    """What a chunk's scores depend on besides tensors."""

    softcap: float | None
    sampling: Sampling
    rows: int
    entropy_grad: bool

    @property
    def plain(self) -> bool:
        """Is the gradient of a log-probability just (one-hot - softmax of the raw logits)?"""
        sampling = self.sampling
        return sampling.temperature == 1.0 and not sampling.filtered and self.softcap is None and not self.entropy_grad

    def logprobs(self, logits_RV: Tensor, targets_R: Tensor) -> Tensor:
        """[R, V] normalised, in place of logits in fp32. Filtered tokens get a finite number."""
        if self.softcap is not None:
            logits_RV.div_(self.softcap).tanh_().mul_(self.softcap)
        sampling = self.sampling
        logits_RV = transform_logits(
            logits_RV, sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p, targets_R
        )
        return torch.log_softmax(logits_RV, -1, out=logits_RV).clamp_(min=_FILTERED)


class _Score(torch.autograd.Function):
    """`chunked_logprobs`, and its gradient by hand: autograd would keep or copy [R, V] five times over."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, hidden_AD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_A: Tensor, scoring: _Scoring
    ) -> tuple[Tensor, Tensor]:
        scores = torch.promote_types(hidden_AD.dtype, torch.float32)
        logprobs_A, entropy_A = (hidden_AD.new_empty(len(targets_A), dtype=scores) for _ in range(2))
        for chunk, logits_RV in _chunks(hidden_AD, weight_VD, bias_V, scoring.rows):
            for part, raw_RV, work_RV in _blocks(chunk, logits_RV, scores):
                logprobs_RV = scoring.logprobs(work_RV.copy_(raw_RV), targets_A[part])
                logprobs_A[part] = logprobs_RV.gather(1, targets_A[part, None])[:, 0]
                entropy_A[part] = -logprobs_RV.mul_(logprobs_RV.exp()).sum(-1)
        ctx.scoring = scoring
        ctx.save_for_backward(hidden_AD, weight_VD, bias_V, targets_A, logprobs_A, entropy_A)
        if not scoring.entropy_grad:
            ctx.mark_non_differentiable(entropy_A)
        return logprobs_A, entropy_A

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, credit_A: Tensor, bonus_A: Tensor
    ) -> tuple[Tensor | None, ...]:
        hidden_AD, weight_VD, bias_V, targets_A, logprobs_A, entropy_A = ctx.saved_tensors
        scoring: _Scoring = ctx.scoring
        grad_hidden_AD = torch.empty_like(hidden_AD) if ctx.needs_input_grad[0] else None
        grad_weight_VD = torch.empty_like(weight_VD) if ctx.needs_input_grad[1] else None
        grad_bias_V = torch.zeros_like(bias_V) if ctx.needs_input_grad[2] else None
        for chunk, logits_RV in _chunks(hidden_AD, weight_VD, bias_V, scoring.rows):
            credit_R1 = credit_A[chunk, None].to(hidden_AD.dtype)
            if scoring.plain:
                # softmax - one-hot; the credit is left to the narrow products. Taken from the fp32 logprob, the
                # target's own entry stays exact for a confident token, where p - 1 in bf16 would be 0.
                torch.softmax(logits_RV, -1, out=logits_RV)
                own_R1 = logprobs_A[chunk, None].expm1().to(logits_RV.dtype)
                logits_RV.scatter_(1, targets_A[chunk, None], own_R1)
                scale_R1 = -credit_R1
            else:
                for part, raw_RV, work_RV in _blocks(chunk, logits_RV, logprobs_A.dtype):
                    work_RV.copy_(raw_RV)
                    gradient = _gradient(
                        scoring, work_RV, targets_A[part], credit_A[part], bonus_A[part], entropy_A[part]
                    )
                    raw_RV.copy_(gradient)
                scale_R1 = torch.ones_like(credit_R1)
            if grad_hidden_AD is not None:
                torch.mm(logits_RV, weight_VD, out=grad_hidden_AD[chunk]).mul_(scale_R1)
            if grad_weight_VD is not None:
                # Chunks add up; the first one overwrites.
                grad_weight_VD.addmm_(logits_RV.T, hidden_AD[chunk] * scale_R1, beta=int(chunk.start > 0))
            if grad_bias_V is not None:
                grad_bias_V.addmv_(logits_RV.T, scale_R1[:, 0])
        return grad_hidden_AD, grad_weight_VD, grad_bias_V, None, None


def _gradient(
    scoring: _Scoring, logits_RV: Tensor, targets_R: Tensor, credit_R: Tensor, bonus_R: Tensor, entropy_R: Tensor
) -> Tensor:
    """[R, V] the gradient at the raw logits, of credit * log-probability + bonus * entropy."""
    slope_RV = None if scoring.softcap is None else 1.0 - (logits_RV / scoring.softcap).tanh_().square_()
    logprobs_RV = scoring.logprobs(logits_RV, targets_R)
    probs_RV = logprobs_RV.exp()
    if scoring.entropy_grad:
        share_RV = logprobs_RV.add_(entropy_R[:, None]).mul_(bonus_R[:, None]).add_(credit_R[:, None])
        gradient_RV = probs_RV.mul_(share_RV).neg_()
    else:
        gradient_RV = probs_RV.mul_(-credit_R[:, None])
    gradient_RV.scatter_add_(1, targets_R[:, None], credit_R[:, None])
    if slope_RV is not None:
        gradient_RV.mul_(slope_RV)
    return gradient_RV.div_(scoring.sampling.temperature)


def largest_chunk(actions: int, rows: int = ROWS) -> int:
    """Of so many actions the chunk that takes the most memory: the last one."""
    return actions - rows * (max(1, actions // rows) - 1)


def _chunks(hidden_AD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, rows: int) -> Iterator[tuple[slice, Tensor]]:
    """Each chunk of actions and its raw logits, which lie in one buffer for all of them."""
    actions, count = len(hidden_AD), max(1, len(hidden_AD) // rows)
    cuts = [*range(0, rows * count, rows), actions]  # all alike but the last: a CPU generates code for every shape
    buffer = _workspace(largest_chunk(actions, rows), len(weight_VD), hidden_AD)
    for a, b in pairwise(cuts):
        logits_RV = torch.mm(hidden_AD[a:b], weight_VD.T, out=buffer[: b - a])
        yield slice(a, b), logits_RV if bias_V is None else logits_RV.add_(bias_V)


_WORKSPACES: Final[dict[torch.dtype, Tensor]] = {}


def _workspace(rows: int, width: int, like: Tensor) -> Tensor:
    """[rows, width] to write over, and to be done with before the next call.

    On a CPU it is the same memory each time: so large a block is otherwise mapped anew by every call, and in a virtual
    machine its fresh pages cost more than the products that fill them.
    """
    if like.is_cuda:
        return like.new_empty(rows, width)
    held = _WORKSPACES.get(like.dtype)
    if held is None or held.numel() < rows * width:
        held = _WORKSPACES[like.dtype] = torch.empty(rows * width, dtype=like.dtype)
    return held[: rows * width].view(rows, width)


def _blocks(chunk: slice, logits_RV: Tensor, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """On a CPU, as few rows at a time as its caches hold, with room to compute on them in `dtype`."""
    rows, vocabulary = logits_RV.shape
    step = max(1, rows if logits_RV.is_cuda else min(rows, _CACHED // vocabulary))
    buffer = logits_RV.new_empty(step, vocabulary, dtype=dtype)
    for at in range(0, rows, step):
        raw_RV = logits_RV[at : at + step]
        start = chunk.start + at
        yield slice(start, start + len(raw_RV)), raw_RV, buffer[: len(raw_RV)]


def sample(logits_RV: Tensor, uniform_R: Tensor) -> tuple[Tensor, Tensor]:
    """Draws a token for each row by inverting its cumulative distribution, over blocks of tokens, then inside one.

    Two short cumulative sums replace one over the vocabulary: less rounding, less work. A filtered token
    (-inf) is never drawn, whatever the rounding, not even for a uniform of 0 or 1.

    Args:
        logits_RV: [R, V] transformed logits, at least one of them finite in each row.
        uniform_R: [R] random numbers in [0, 1].

    Returns:
        tokens_R: [R] int64; logprobs_R: [R] their log-probabilities, in fp32 (fp64 stays).
    """
    assert uniform_R.shape == logits_RV.shape[:1], (uniform_R.shape, logits_RV.shape)
    logits_RV = at_least_fp32(logits_RV)
    rows, vocabulary = logits_RV.shape
    top_R = logits_RV.amax(-1)
    mass_RV = (logits_RV - top_R[:, None]).exp()
    if vocabulary % BLOCK:
        mass_RV = F.pad(mass_RV, (0, -vocabulary % BLOCK))
    mass_RKW = mass_RV.view(rows, -1, BLOCK)
    mass_RK = mass_RKW.sum(-1)
    total_R = mass_RK.sum(-1)
    block_R, rest_R = _invert(mass_RK, uniform_R * total_R)
    row_R = torch.arange(rows, device=logits_RV.device)
    inside_R, _ = _invert(mass_RKW[row_R, block_R], rest_R)
    tokens_R = block_R * BLOCK + inside_R
    return tokens_R, logits_RV[row_R, tokens_R] - top_R - total_R.log()


def _invert(mass_RK: Tensor, target_R: Tensor) -> tuple[Tensor, Tensor]:
    """The first entry whose cumulative mass exceeds the target, and how much of the target is left for it.

    Rounding can make a cumulative sum step at an entry without mass, or end below the target: only entries
    with mass are eligible, and the last of them takes what is left over.
    """
    above_RK = mass_RK.cumsum(-1)
    eligible_RK = mass_RK > 0
    reached_RK = eligible_RK & (above_RK > target_R[:, None])
    first_R = reached_RK.to(torch.int8).argmax(-1)
    last_R = mass_RK.shape[1] - 1 - eligible_RK.flip(-1).to(torch.int8).argmax(-1)
    index_R = torch.where(reached_RK.any(-1), first_R, last_R)
    at_R1 = index_R[:, None]
    below_R = (above_RK.gather(1, at_R1) - mass_RK.gather(1, at_R1))[:, 0]
    return index_R, target_R - below_R
