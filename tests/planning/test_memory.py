"""Bytes against what tensors really take, and time against sums by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_model, tiny_tokenizer
from tutelage.config import Optimizer, Sampling
from tutelage.data.packing import Row
from tutelage.engines import Request
from tutelage.engines.native import NativeEngine
from tutelage.errors import ConfigError
from tutelage.models import Policy
from tutelage.planning.accelerators import ACCELERATORS, LEARNING, SAMPLING, accelerator
from tutelage.planning.demand import Asked, Demand
from tutelage.planning.forecast import seconds_of_step
from tutelage.planning.memory import Weights, largest_batch, memory_of, pool_bytes
from tutelage.planning.rates import Rates, probe_learning, published
from tutelage.training import State

ROWS = [Row((1, 2, 3), (4,) * 10, 0), Row((1, 2, 3), (5,) * 7, 0), Row((6,), (7,) * 5, 1)]


def policy_of(compute: torch.dtype = torch.float32) -> Policy:
    return Policy(tiny_model(), tiny_tokenizer(), compute)


def weights_of(policy: Policy) -> Weights:
    parameters = sum(p.numel() for p in policy.module.parameters())
    return Weights.of(policy.module.config, parameters, policy.compute.itemsize)


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_weights_and_moments_are_as_large_as_the_tensors(compute: torch.dtype) -> None:
    policy = policy_of(compute)
    state = State(policy, Optimizer())
    probe_learning(policy, state, ROWS, False, 64)
    tensors = {t.data_ptr(): t.nbytes for t in (*policy.module.parameters(), *policy.masters.values())}
    moments = sum(t.nbytes for one in state.optimizer.state.values() for t in one.values() if t.numel() > 1)
    found = memory_of(weights_of(policy), Demand(1), 22, 22, 100.0, 0)
    assert found["weights"] == sum(tensors.values())
    assert found["optimizer"] == pytest.approx(moments, rel=0.01)


@pytest.mark.parametrize("new", [3, 40])
def test_the_pool_is_as_large_as_the_engine_makes_it(new: int) -> None:
    policy, prompts = policy_of(), ((1, 2, 3), (4,) * 20)
    engine = NativeEngine(policy)
    engine.generate(
        [Request(prompt, 3, i) for i, prompt in enumerate(prompts)], sampling := Sampling(max_new_tokens=new)
    )
    assert engine.pool is not None
    assert pool_bytes(weights_of(policy), Asked(prompts, 3, sampling)) == engine.pool.cache.nbytes


def test_what_is_kept_grows_with_the_positions() -> None:
    policy = policy_of()
    few, many = ([Row((), (4,) * 32, i) for i in range(count)] for count in (2, 8))
    state = State(policy, Optimizer())
    a, b = (probe_learning(policy, state, rows, False, 512).activations for rows in (few, many))
    layer = policy.module.config.hidden_size * 4
    assert a == pytest.approx(b, rel=0.1)
    assert a > 2 * policy.module.config.num_hidden_layers * layer  # at least the inputs of attention and MLP


def test_checkpointing_keeps_inputs_and_one_layer() -> None:
    weights = Weights(all=100, trained=100, compute=4, width=8, layers=4, vocabulary=50, keys=8)
    plain = memory_of(weights, Demand(1), 10, 10, 4000.0, 0)
    again = memory_of(Weights(**{**_fields(weights), "checkpointed": True}), Demand(1), 10, 10, 4000.0, 0)
    assert plain["activations"] == 40_000
    assert again["activations"] == 10 * (2 * 4 * 8 * 4 + 1000)


def test_each_held_model_is_counted() -> None:
    weights = Weights(all=100, trained=100, compute=2, width=8, layers=4, vocabulary=50, keys=8)
    alone = memory_of(weights, Demand(1), 10, 10, 100.0, 7)
    both = memory_of(weights, Demand(1, reference=True, moving=True, critic=True), 10, 10, 100.0, 7, judges=33)
    assert alone == {
        "process": 7, "weights": 600, "gradients": 600, "optimizer": 800, "activations": 1000, "backward": 500,
        "logits": 1000,
    }  # fmt: skip
    assert both["weights"] == 1000
    assert both["optimizer"] == 1600
    assert both["activations"] == 2000
    assert both["reference"] == 600
    assert both["reward models"] == 33


def test_the_largest_micro_batch_shares_prompts() -> None:
    demand = Demand(1, lambda lengths: [ROWS], tokens_per_microbatch=100)
    assert largest_batch(demand, [ROWS]) == (3 + 10 + 7 + 1 + 5, 22)


def test_decoding_is_step_by_step_with_those_who_still_write() -> None:
    rates = Rates(0.0, 0.0, 0.0, 0.0, token=1.0, sequence=0.1)
    assert rates.decoding([2, 5]) == pytest.approx(2 * 1.2 + 3 * 1.1)
    assert rates.decoding([2, 2, 3], slots=2) == pytest.approx(2 * 1.2 + 3 * 1.1)


def test_a_step_adds_up_sampling_scoring_and_learning() -> None:
    asked = Asked(((1, 2, 3), (6,)), 1, Sampling(max_new_tokens=4))
    demand = Demand(3, lambda lengths: [ROWS], 100, passes=2, updates=4, forwards=1, asked=asked)
    rates = Rates(learn=1.0, forward=0.1, update=10.0, activations=0.0, prefill=0.01, token=0.001)
    seconds = 26 * 2.1 + 40 + 0.04 + 4 * 0.001
    assert seconds_of_step(demand, [ROWS], [4], rates) == pytest.approx(seconds)
    assert seconds_of_step(replace(demand, shown=7.0), [ROWS], [4], rates) == pytest.approx(seconds + 4 * 7)


def test_published_figures_are_operations_by_the_share_that_is_reached() -> None:
    machine = ACCELERATORS["h100"]
    rates = published(machine, 10**9, 20, 1e5, 100, 0.0)
    assert rates.learn == pytest.approx(6e9 / (989e12 * LEARNING))
    assert rates.learn == pytest.approx(3 * rates.forward)
    assert rates.token == pytest.approx(20e-4)  # launches, of so small a model
    assert rates.token > 2e9 / (machine.bandwidth * SAMPLING)
    large = published(machine, 10**10, 20, 1e5, 100, 0.0)
    assert large.token == pytest.approx(2e10 / (machine.bandwidth * SAMPLING))


def test_an_accelerator_without_figures_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"h1000.*h100"):
        accelerator("h1000")


def _fields(weights: Weights) -> dict[str, object]:
    return {name: getattr(weights, name) for name in Weights.__slots__}
