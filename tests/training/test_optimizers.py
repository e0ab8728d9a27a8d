"""Muon beside AdamW, and the schedules, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tiny import tiny_model, tiny_tokenizer
from tutelage.config import Optimizer
from tutelage.models import Policy
from tutelage.training import State, learning_rate, load_checkpoint
from tutelage.training.checkpoint import Snapshot, write_checkpoint
from tutelage.training.optimizers import hidden_matrices


def moved(settings: Optimizer, steps: int = 2) -> tuple[State, dict[str, torch.Tensor]]:
    """A state after some steps on gradients that depend on nothing but the weight and the step."""
    state = State(Policy(tiny_model(tie_word_embeddings=False), tiny_tokenizer(), torch.float32), settings)
    before = {name: master.detach().clone() for name, master in state.policy.masters.items()}
    for step in range(steps):
        for number, master in enumerate(state.policy.masters.values()):
            generator = torch.Generator().manual_seed(100 * step + number)
            master.grad = torch.randn(master.shape, generator=generator)
        state.optimizer.step()
        state.optimizer.zero_grad()
    return state, {name: master.detach() - before[name] for name, master in state.policy.masters.items()}


def test_muon_takes_the_matrices_of_the_layers_and_nothing_else() -> None:
    settings = Optimizer(lr=1e-3, weight_decay=0.1)
    state, by_muon = moved(settings.model_copy(update={"type": "muon"}))
    _, by_adamw = moved(settings)
    matrices = hidden_matrices(state.policy.masters)
    names = [name for name, master in state.policy.masters.items() if any(master is m for m in matrices)]
    assert len(names) == 2 * 7  # query, key, value, output, gate, up, down of two layers
    for name, change in by_muon.items():
        assert change.equal(by_adamw[name]) == (name not in names), name


def test_its_updates_are_torchs_own() -> None:
    state, by_muon = moved(Optimizer(type="muon", lr=1e-3, weight_decay=0.1), steps=1)
    name = "model.layers.0.mlp.up_proj.weight"
    weight = torch.nn.Parameter(tiny_model(tie_word_embeddings=False).get_parameter(name).detach().clone())
    start = weight.detach().clone()
    number = list(state.policy.masters).index(name)
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(number))
    torch.optim.Muon([weight], lr=1e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw").step()
    torch.testing.assert_close(by_muon[name], weight.detach() - start, rtol=0, atol=1e-7)


def test_muons_moments_are_restored(tmp_path: Path) -> None:
    settings = Optimizer(type="muon", lr=1e-3)
    state, _ = moved(settings)
    state.step = 2
    write_checkpoint(Snapshot.of(state, {"metrics": 0}), tmp_path, keep=1)
    fresh = State(Policy(tiny_model(tie_word_embeddings=False), tiny_tokenizer(), torch.float32), settings)
    load_checkpoint(fresh, tmp_path)
    kinds: set[str] = set()
    for name, master in state.policy.masters.items():
        kept = fresh.optimizer.state[fresh.policy.masters[name]]
        assert kept.keys() == state.optimizer.state[master].keys()
        kinds |= set(kept)
        for key, value in state.optimizer.state[master].items():
            assert kept[key].equal(value), (name, key)
    assert kinds == {"step", "exp_avg", "exp_avg_sq", "momentum_buffer"}


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, *[1.0] * 11]),
        ("linear", [0.5, 1.0, *(1.0 - 0.1 * i for i in range(10))]),
        ("wsd", [0.5, *[1.0] * 7, 0.775, 0.55, 0.325, 0.1]),
    ],
)
def test_schedules_by_hand(schedule: str, expected: list[float]) -> None:
    """Twelve steps, two of them to warm up; wsd decays over the last four."""
    settings = Optimizer.model_validate({"lr": 2.0, "warmup_steps": 2, "schedule": schedule, "decay_share": 0.33})
    rates = [learning_rate(settings, step, 12) / 2.0 for step in range(12)]
    assert rates[: len(expected)] == pytest.approx(expected)
    assert rates[-1] == pytest.approx(1.0 if schedule == "constant" else 0.1)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_matrices_decay_and_gains_and_biases_do_not(kind: str) -> None:
    policy = Policy(tiny_model("qwen2"), tiny_tokenizer(), torch.float32)
    state = State(policy, Optimizer(type=kind, lr=0.01, weight_decay=0.5))  # type: ignore[arg-type]
    before = {name: master.detach().clone() for name, master in policy.masters.items()}
    for master in policy.masters.values():
        master.grad = torch.zeros_like(master)
    state.optimizer.step()
    for name, master in policy.masters.items():
        left = 1.0 if master.ndim == 1 else 1.0 - 0.01 * 0.5
        assert torch.allclose(master, left * before[name], atol=1e-7), name
