"""The sequences that are being written: their noise, their tokens, and when they are finished."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tutelage import kernels
from tutelage.config import Sampling
from tutelage.engines.base import Completion, Finished, Request, Watch
from tutelage.errors import ModelError
from tutelage.functional.logprobs import gather_logprobs, sample, transform_logits
from tutelage.models.loading import context_length
from tutelage.seeds import derive_seed


class Stopper:
    """Knows when a sequence is finished: an end token, or a stop string, which may cross token borders."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, end_tokens: frozenset[int], stop: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self.end_tokens = end_tokens
        self.stop = tuple(stop)
        self.longest = max(map(len, stop), default=0)

    def stops(self, tokens: list[int]) -> bool:
        if tokens[-1] in self.end_tokens:
            return True
        if not self.stop:
            return False
        # A token is at least one byte and a character at most four: so many tokens hold the longest stop string.
        tail = self.tokenizer.decode(tokens[-4 * self.longest - 4 :], skip_special_tokens=False)
        return any(word in tail for word in self.stop)


class Writing:
    """One sequence being written."""

    __slots__ = ("completion", "index", "limit", "noise", "request")

    def __init__(self, request: int, index: int, seed: int, limit: int, version: int) -> None:
        self.request, self.index, self.limit = request, index, limit
        self.completion = Completion(version=version)
        self.noise = np.random.Generator(np.random.Philox(key=derive_seed(seed, index))).random(limit)

    def append(self, token: int, logprob: float, stopper: Stopper) -> bool:
        """Takes one token; says whether the sequence is finished."""
        completion = self.completion
        completion.tokens.append(token)
        completion.logprobs.append(logprob)
        if stopper.stops(completion.tokens):
            completion.finish = "stop"
            return True
        return len(completion.tokens) == self.limit


def begin(
    requests: Sequence[Request], sampling: Sampling, version: int
) -> tuple[list[Writing], list[list[Completion]]]:
    """Every sequence that is wanted, in order, and the completions they will write, by request."""
    rows = [
        Writing(number, index, request.seed, request.room(sampling), version)
        for number, request in enumerate(requests)
        for index in range(request.count)
    ]
    groups: list[list[Completion]] = [[] for _ in requests]
    for row in rows:
        groups[row.request].append(row.completion)
    return rows, groups


class Progress:
    """Tells a caller how far a call has come, and of each request whose last completion is written."""

    def __init__(
        self,
        requests: Sequence[Request],
        groups: Sequence[list[Completion]],
        watch: Watch | None,
        finished: Finished | None,
    ) -> None:
        self.groups, self.watch, self.finished = groups, watch, finished
        self.open = [request.count for request in requests]  # completions of each request that are not written yet
        self.done = 0

    def tell(self, ended: Sequence[Writing]) -> None:
        """Takes the sequences that have ended since it was last told."""
        self.done += len(ended)
        for writing in ended:
            self.open[writing.request] -= 1
            if self.finished and not self.open[writing.request]:
                self.finished(writing.request, self.groups[writing.request])
        if self.watch:
            self.watch(self.done, sum(len(completion.tokens) for group in self.groups for completion in group))


def draw(logits_BV: Tensor, uniform_B: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The next token of each sequence with its log-probability: [B] int64, [B] fp32. `uniform_B`: in [0, 1)."""
    logits_BV = logits_BV.float()
    if logits_BV.device.type == "cpu" and (sampling.greedy or not sampling.filtered) and kernels.kernels_ready():
        return kernels.sample(logits_BV, uniform_B, sampling.temperature)
    if sampling.greedy:
        tokens_B = logits_BV.argmax(-1)
        return tokens_B, gather_logprobs(logits_BV, tokens_B)
    logits_BV = transform_logits(
        logits_BV, sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p, min_p=sampling.min_p
    )
    return sample(logits_BV, uniform_B)


def noise_for(writing: Sequence[Writing], steps: int, device: torch.device) -> Tensor:
    """The noise of each sequence's next tokens, [steps, B]; zeros where that is past its last one."""
    noise_SB = np.zeros((steps, len(writing)))
    for column, w in enumerate(writing):
        mine = w.noise[len(w.completion.tokens) :][:steps]
        noise_SB[: len(mine), column] = mine
    return torch.tensor(noise_SB, dtype=torch.float32, device=device)


def end_tokens(module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every token that ends an answer: the tokenizer's own and those of the model's generation config."""
    found: set[int] = set()
    for ids in (tokenizer.eos_token_id, getattr(module.generation_config, "eos_token_id", None)):
        found |= {ids} if isinstance(ids, int) else set(ids or ())
    return frozenset(found)


def check_fits(requests: Sequence[Request], sampling: Sampling, module: PreTrainedModel) -> None:
    """Refuses a request that would run over the model's context."""
    context = context_length(module.config)
    for number, request in enumerate(requests):
        if not request.tokens:
            raise ModelError(f"request {number}: an empty prompt has nothing to continue")
        if len(request.tokens) + request.room(sampling) > context:
            raise ModelError(
                f"request {number}: a prompt of {len(request.tokens)} tokens and max_new_tokens = "
                f"{request.room(sampling)} do not fit into the model's context of {context}: "
                f"{what_fits(len(request.tokens), context)}"
            )


def what_fits(prompt: int, keys: int) -> str:
    """The remedy for a sequence that needs more than so many keys."""
    if keys > prompt:
        return f"max_new_tokens = {keys - prompt} would fit"
    return f"a prompt of {max(0, keys - 1)} tokens would fit, with max_new_tokens = 1"
