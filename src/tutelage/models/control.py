"""Small networks for classic control: a policy over observations, its critic, and running statistics."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tutelage.errors import ModelError
from tutelage.functional import distributions, kl
from tutelage.types import Transitions

Array = np.ndarray  # acting is numpy: for a few rows, torch's calls cost several times the arithmetic


@dataclass(frozen=True, slots=True)
class Spaces:
    """What goes in and out: numbers of an observation; choices, or numbers of an action with their bounds."""

    observation: int
    choices: int | None
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @property
    def outputs(self) -> int:
        return len(self.low) if self.choices is None else self.choices


class ControlPolicy:
    """A categorical or diagonal-Gaussian policy: tanh layers with orthogonal weights, as in PPO's own code."""

    def __init__(self, spaces: Spaces, hidden: Sequence[int], seed: int) -> None:
        self.spaces, self.hidden = spaces, tuple(hidden)
        self.version = 0
        self.module = _network((spaces.observation, *hidden, spaces.outputs), 0.01, seed)
        self.log_std_K = nn.Parameter(torch.zeros(spaces.outputs)) if spaces.choices is None else None
        spread = {} if self.log_std_K is None else {"log_std": self.log_std_K}
        self.masters: dict[str, Tensor] = {**dict(self.module.named_parameters()), **spread}

    def act(self, observations_EO: Array, random: np.random.Generator | None) -> Array:
        """Actions [E] or [E, K] for observations [E, O]; without a source of noise, the most likely ones."""
        outputs_EK = _forward(self.module, observations_EO)
        if self.log_std_K is not None:
            if random is None:
                return outputs_EK
            return outputs_EK + np.exp(self.log_std_K.detach().numpy()) * random.standard_normal(outputs_EK.shape)
        if random is None:
            return outputs_EK.argmax(-1)
        return (outputs_EK + random.gumbel(size=outputs_EK.shape)).argmax(-1)

    def allowed(self, actions: Array) -> Array:
        """What the environment is given: continuous actions within their bounds. The policy learns from its own."""
        return actions if self.spaces.choices is not None else np.clip(actions, self.spaces.low, self.spaces.high)

    def score(self, batch: Transitions, entropy_grad: bool = False) -> tuple[Tensor, Tensor]:
        """logprobs_A, entropy_A; the second without its gradient unless asked for."""
        outputs_AK = self.module(batch.observations_AO)
        if self.log_std_K is None:
            logprobs_A, entropy_A = distributions.categorical(outputs_AK, batch.actions_A)
        else:
            logprobs_A, entropy_A = distributions.gaussian(outputs_AK, self.log_std_K, batch.actions_A)
        return logprobs_A, entropy_A if entropy_grad else entropy_A.detach()

    def divergence(self, other: ControlPolicy | None, batch: Transitions) -> Tensor:
        """[A] KL(other || self) of each action's distribution; without another, from its own, detached."""
        outputs_AK, behaviour = self.module(batch.observations_AO), other or self
        with torch.no_grad():
            behaviour_AK = behaviour.module(batch.observations_AO)
        if self.log_std_K is None or behaviour.log_std_K is None:
            return kl.exact(behaviour_AK, outputs_AK)
        return distributions.gaussian_kl(behaviour_AK, behaviour.log_std_K.detach(), outputs_AK, self.log_std_K)

    def frozen_copy(self) -> ControlPolicy:
        twin = copy.deepcopy(self)
        for weight in twin.masters.values():
            weight.requires_grad_(False)
        return twin

    def collect_gradients(self) -> None:
        """Nothing to collect: what computes are the masters."""

    def publish(self) -> None:
        self.version += 1

    def save(self, folder: Path, statistics: Moments) -> None:
        """Writes weights, the observations' statistics, and what the network is."""
        folder.mkdir(parents=True)
        tensors = {name: weight.detach().clone() for name, weight in self.masters.items()}
        save_file({**tensors, **{f"observations/{n}": t.clone() for n, t in statistics.tensors.items()}},
                  folder / "model.safetensors")  # fmt: skip
        (folder / "config.json").write_text(json.dumps({"spaces": asdict(self.spaces), "hidden": self.hidden}))


def load_control_policy(folder: Path) -> tuple[ControlPolicy, Moments]:
    """What `ControlPolicy.save` wrote. Raises ModelError."""
    try:
        config = json.loads((folder / "config.json").read_text())
        tensors = load_file(folder / "model.safetensors")
        policy = ControlPolicy(Spaces(**config["spaces"]), config["hidden"], 0)
        statistics = Moments(policy.spaces.observation)
        with torch.no_grad():
            for name, weight in policy.masters.items():
                weight.copy_(tensors[name])
            for name, tensor in statistics.tensors.items():
                tensor.copy_(tensors[f"observations/{name}"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: not the model of a control stage: {error}") from error
    return policy, statistics


class ControlCritic:
    """A network of its own from observations to values."""

    def __init__(self, spaces: Spaces, hidden: Sequence[int], seed: int) -> None:
        self.module = _network((spaces.observation, *hidden, 1), 1.0, seed)
        self.masters: dict[str, Tensor] = dict(self.module.named_parameters())

    def values(self, batch: Transitions) -> Tensor:
        """[A]"""
        return self.module(batch.observations_AO)[:, 0]

    def collect_gradients(self) -> None:
        """Nothing to collect: what computes are the masters."""

    def publish(self) -> None:
        """Nothing to publish: what computes are the masters."""


class Moments:
    """Running mean and variance of vectors (Chan et al., 1983), in tensors that a checkpoint can hold."""

    def __init__(self, width: int) -> None:
        self.tensors = {
            "mean": torch.zeros(width, dtype=torch.float64),
            "variance": torch.ones(width, dtype=torch.float64),
            "count": torch.full((1,), 1e-4, dtype=torch.float64),
        }
        self.mean, self.variance, self.count = (tensor.numpy() for tensor in self.tensors.values())  # the same memory

    def add(self, rows: Array) -> None:
        count, total = len(rows), self.count + len(rows)
        gap = rows.mean(0) - self.mean
        squares = self.variance * self.count + rows.var(0) * count + gap**2 * self.count * count / total
        self.mean += gap * count / total
        self.variance[:] = squares / total
        self.count[:] = total

    def normalised(self, rows: Array, centred: bool = True, limit: float = 10.0) -> Array:
        """In standard deviations, cut off at the limit."""
        rows = rows - self.mean if centred else rows
        return np.clip(rows / np.sqrt(self.variance + 1e-8), -limit, limit).astype(np.float32)


def _network(widths: Sequence[int], last_gain: float, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for number, (fan_in, fan_out) in enumerate(pairwise(widths)):
            linear = nn.Linear(fan_in, fan_out)
            nn.init.orthogonal_(linear.weight, last_gain if number == len(widths) - 2 else math.sqrt(2.0))
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.Tanh()]
        return nn.Sequential(*layers[:-1])


def _forward(network: nn.Sequential, rows: Array) -> Array:
    for layer in network:
        if isinstance(layer, nn.Linear):
            rows = rows @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        else:
            rows = np.tanh(rows)
    return rows
