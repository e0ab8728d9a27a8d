"""Log-probabilities of tokens, under the very transform of the logits that sampled them.

The sampler and the learner call the same `transform_logits`: a ratio between a truncated or tempered sampler
and a raw learner is biased. Suffix R: rows, any set of positions that are scored or sampled together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

Project = Callable[[Tensor], Tensor]
Transform = Callable[[Tensor, Tensor], Tensor]

BLOCK: Final = 128  # tokens; most models' vocabularies are multiples of it and need no padding


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
    return _entropy(at_least_fp32(logits_RV).log_softmax(-1))


def _entropy(logprobs_RV: Tensor) -> Tensor:
    # 0 * -inf is nan, in the value and in the gradient; 0 times the smallest finite number is 0 in both.
    finite_RV = logprobs_RV.clamp(min=torch.finfo(logprobs_RV.dtype).min)
    return -(logprobs_RV.exp() * finite_RV).sum(-1)


def chunked_logprobs(
    hidden_AD: Tensor,
    project: Project,
    targets_A: Tensor,
    transform: Transform | None = None,
    rows: int = 512,
    entropy_grad: bool = False,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies of actions from hidden states; the [A, V] logits never exist at once.

    Under gradient each chunk is recomputed in the backward pass (Chen et al., 1604.06174) instead of being
    stored, at the price of a second projection.

    Args:
        hidden_AD: [A, D] the hidden state that predicts each action.
        project: [R, D] -> [R, V], the language-model head. Deterministic: it runs twice.
        targets_A: [A] int64, the actions' token ids.
        transform: (logits_RV in fp32, targets_R) -> logits_RV, what the sampler did to its logits; None:
            nothing.
        rows: chunks hold at least this many actions and fewer than twice as many.
        entropy_grad: whether the entropy carries a gradient, as an entropy bonus needs.

    Returns:
        logprobs_A, entropy_A: [A] each, in fp32 (fp64 stays).
    """
    assert hidden_AD.ndim == 2, hidden_AD.shape
    assert targets_A.shape == hidden_AD.shape[:1], (targets_A.shape, hidden_AD.shape)

    def score(hidden_RD: Tensor, targets_R: Tensor) -> tuple[Tensor, Tensor]:
        logits_RV = at_least_fp32(project(hidden_RD))
        if transform is not None:
            logits_RV = transform(logits_RV, targets_R)
        logprobs_RV = logits_RV.log_softmax(-1)
        logprobs_R = logprobs_RV.gather(1, targets_R[:, None])[:, 0]
        # Last: the recomputation stops once it has what the gradient needs, and so skips a detached entropy.
        return logprobs_R, _entropy(logprobs_RV if entropy_grad else logprobs_RV.detach())

    def score_again(hidden_RD: Tensor, targets_R: Tensor) -> tuple[Tensor, Tensor]:
        again = cast(Callable[..., tuple[Tensor, Tensor]], checkpoint)  # torch leaves it untyped
        return again(score, hidden_RD, targets_R, use_reentrant=False, preserve_rng_state=False)

    run = score_again if torch.is_grad_enabled() else score
    chunks = max(1, len(targets_A) // rows)
    pairs = zip(hidden_AD.tensor_split(chunks), targets_A.tensor_split(chunks), strict=True)
    scored = [run(hidden_RD, targets_R) for hidden_RD, targets_R in pairs]
    return torch.cat([part[0] for part in scored]), torch.cat([part[1] for part in scored])


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
