"""How fast a model learns and samples: by a short probe on this machine, or from an accelerator's figures."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

from tutelage.data.packing import Row, least_budget, pack
from tutelage.engines import Request, build_engine
from tutelage.engines.native import SLOTS
from tutelage.models import Policy, RewardModel
from tutelage.planning.accelerators import LEARNING, SAMPLING, Accelerator
from tutelage.planning.demand import Asked
from tutelage.training import State
from tutelage.types import Batch

_PROBED = 1024  # positions of the rows that are learned from, or one row
_AT_MOST = 4.0  # seconds that learning from a whole micro-batch may take in a probe
_COUNTED = 128  # positions, or one row, where only bytes are asked: a processor may be slow in another machine's type
_LAUNCHED = 1e-4  # seconds that a layer takes however little it computes: some twenty launches of 5 microseconds
_RUNS, _ENOUGH = 7, 1.0  # a time is the median of so many runs, or of those within so many seconds
_SHORT, _LONG = 2, 10  # tokens of the answers that are sampled
_WATCHED = 16  # prompts whose answers tell how long answers are


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds, and the bytes that a position of a micro-batch keeps for the backward pass."""

    learn: float  # a position: forward and backward
    forward: float  # a position, without gradient
    update: float  # once an update: norm, optimizer, handing the weights on
    activations: float  # bytes a position
    prefill: float = 0.0  # a prompt's token
    token: float = 0.0  # each step of decoding
    sequence: float = 0.0  # each step of decoding, for each sequence in it

    def decoding(self, lengths: Sequence[int], slots: int = SLOTS) -> float:
        """Seconds in which answers of these lengths are written, so many side by side."""
        waiting, active, seconds = deque(lengths), list[int](), 0.0
        while waiting or active:
            while waiting and len(active) < slots:
                active.append(waiting.popleft())
            run = min(active)
            seconds += run * (self.token + self.sequence * len(active))
            active = [left - run for left in active if left > run]
        return seconds


def probe_learning(
    model: Policy | RewardModel, state: State, rows: Sequence[Row], whole_groups: bool, tokens_per_microbatch: int
) -> Rates:
    """Learns a little from some of these rows. The weights are changed: the model must be one to throw away.

    From a whole micro-batch where that is a matter of seconds: with a small model what a batch costs besides its
    positions is a good part of it.
    """
    batch = _some(rows, whole_groups, _PROBED)
    _learn(model, batch)  # the first pass, whose time is not counted
    learn = _seconds(lambda: _learn(model, batch))
    if learn * tokens_per_microbatch < _AT_MOST * len(batch.tokens_N):
        batch = _some(rows, whole_groups, tokens_per_microbatch)
        learn = _seconds(lambda: _learn(model, batch))
    positions = len(batch.tokens_N)
    forward, kept = _reading(model, batch), _kept_bytes(model, batch)
    _update(state)
    update = _seconds(lambda: _update(state))
    return Rates(learn / positions, forward, update, kept / positions)


def probe_activations(model: Policy | RewardModel, rows: Sequence[Row], whole_groups: bool) -> float:
    """Bytes that a position of a micro-batch keeps for the backward pass, by a forward pass of some of these rows."""
    batch = _some(rows, whole_groups, _COUNTED)
    return _kept_bytes(model, batch) / len(batch.tokens_N)


def probe_reading(policy: Policy, rows: Sequence[Row]) -> float:
    """Seconds of a position in a forward pass of some of these rows without gradient."""
    batch = _some(rows, False, _PROBED)
    _reading(policy, batch)  # the first passes, whose time is not counted
    return _reading(policy, batch)


def probe_sampling(wish: str, policy: Policy, asked: Asked) -> tuple[float, float, float]:
    """Seconds of a prompt's token, of a step of decoding, and of each sequence in a step.

    Args:
        wish: the recipe's engine.
    """
    engine = build_engine(wish, policy)
    engine.end_tokens = frozenset()  # an answer that ends early would tell nothing of the time of a token
    answers = min(asked.answers, SLOTS)
    prompts = asked.prompts[: max(1, SLOTS // answers)]
    read = sum(map(len, prompts))
    long = min(asked.sampling.max_new_tokens, _LONG)
    short = min(_SHORT, long)

    def seconds(prompts: Sequence[tuple[int, ...]], tokens: int) -> float:
        sampling = asked.sampling.model_copy(update={"max_new_tokens": tokens, "stop": ()})
        requests = [Request(prompt, answers, number) for number, prompt in enumerate(prompts)]
        return _seconds(lambda: engine.generate(requests, sampling))

    seconds(prompts, long)  # makes the pool of keys and values, and whatever a first call makes
    brief = seconds(prompts, short)
    if long == short:
        return brief / read, 0.0, 0.0
    each = max(0.0, seconds(prompts, long) - brief) / (long - short)
    prefill = max(0.0, brief - short * each) / read
    few = prompts[: -(-len(prompts) // 4)]
    if len(few) == len(prompts):
        return prefill, each, 0.0
    slim = max(0.0, seconds(few, long) - prefill * sum(map(len, few))) / long
    more = max(0.0, each - slim) / (answers * (len(prompts) - len(few)))
    return prefill, max(0.0, each - more * answers * len(prompts)), more


def lengths_now(wish: str, policy: Policy, asked: Asked) -> list[int]:
    """How many tokens the model's answers to some of the prompts have."""
    engine = build_engine(wish, policy)
    every = max(1, len(asked.prompts) // _WATCHED)
    requests = [Request(prompt, 1, number) for number, prompt in enumerate(asked.prompts[::every][:_WATCHED])]
    return [len(one.tokens) for (one,) in engine.generate(requests, asked.sampling)]


def published(
    machine: Accelerator, parameters: int, layers: int, key_bytes: float, keys: int, activations: float
) -> Rates:
    """What an accelerator's figures come to.

    Args:
        parameters, layers: of the model.
        key_bytes: of the keys and values of one token.
        keys: of a sequence, halfway through its answer.
        activations: bytes a position.
    """
    flops, bandwidth = machine.flops * LEARNING, machine.bandwidth * SAMPLING
    return Rates(
        learn=6 * parameters / flops,
        forward=2 * parameters / flops,
        # Reads and writes masters and moments, writes the rounded weights; and forward and backward are launched.
        update=20 * parameters / bandwidth + 3 * layers * _LAUNCHED,
        activations=activations,
        prefill=2 * parameters / flops,
        token=max(2 * parameters / bandwidth, layers * _LAUNCHED),
        sequence=key_bytes * keys / bandwidth + 2 * parameters / flops,
    )


def _some(rows: Sequence[Row], whole_groups: bool, positions: int) -> Batch:
    """A batch of the first rows, of about so many positions."""
    return pack(rows, max(positions, least_budget(rows, whole_groups)), whole_groups)[0]


def _score(model: Policy | RewardModel, batch: Batch) -> Tensor:
    return model.score(batch)[0] if isinstance(model, Policy) else model.scores(batch)


def _learn(model: Policy | RewardModel, batch: Batch) -> None:
    _score(model, batch).sum().backward()
    model.collect_gradients()


@torch.no_grad()
def _reading(model: Policy | RewardModel, batch: Batch) -> float:
    """Seconds of a position in a forward pass."""
    return _seconds(lambda: _score(model, batch)) / len(batch.tokens_N)


def _update(state: State) -> None:
    for model in state.models:
        torch.nn.utils.get_total_norm([m.grad for m in model.masters.values() if m.grad is not None])
    state.optimizer.step()
    state.publish()


def _kept_bytes(model: Policy | RewardModel, batch: Batch) -> int:
    """Bytes that a forward pass keeps for its backward pass, weights aside."""
    module = model.module if isinstance(model, Policy) else model.body.module
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _score(model, batch)
    return sum(kept.values())


def _seconds(do: Callable[[], object]) -> float:
    """The median of some runs: a short one by itself tells more of the machine's mood than of the model."""
    taken: list[float] = []
    while len(taken) < _RUNS and sum(taken) < _ENOUGH:
        began = perf_counter()
        do()
        taken.append(perf_counter() - began)
    return median(taken)
