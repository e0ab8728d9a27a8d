"""Optimizers on master weights: AdamW for all of them, or Muon for the matrices of the hidden layers beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.config import Optimizer

_OUTSIDE = ("embed", "lm_head", "score.", "head.", "wte", "wpe")  # in the names of matrices that are no hidden layer's


class Joined:
    """Two optimizers as one, with one state by weight: to save and restore it nobody needs to know of the two."""

    def __init__(self, first: torch.optim.Optimizer, second: torch.optim.Optimizer) -> None:
        self.parts = first, second
        second.state = first.state

    @property
    def state(self) -> dict[Tensor, Any]:
        return self.parts[0].state

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()


def build_optimizer(
    settings: Optimizer, groups: Sequence[dict[str, Any]], matrices: Sequence[Tensor]
) -> torch.optim.Optimizer | Joined:
    """The optimizer of a stage.

    Args:
        groups: each with its `params` and its `share` of the learning rate.
        matrices: those of `params` that Muon takes, where it is asked for.
    """
    chosen = {id(matrix) for matrix in matrices} if settings.type == "muon" else set[int]()
    others = [{**group, "params": [p for p in group["params"] if id(p) not in chosen]} for group in groups]
    if settings.weight_decay:
        others = [part for group in others for part in _matrices_and_vectors(group)]
    adamw = torch.optim.AdamW(
        others, lr=settings.lr, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay, fused=True
    )
    if not chosen:
        return adamw
    # Its own default momentum, 0.95: AdamW's betas do not fit it.
    muon = torch.optim.Muon(
        [{"params": list(matrices), "share": 1.0}],
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return Joined(adamw, muon)


def _matrices_and_vectors(group: dict[str, Any]) -> list[dict[str, Any]]:
    """Weight decay is of what multiplies: gains of norms, which begin at 1, and biases keep their size."""
    matrices, vectors = ([p for p in group["params"] if (p.ndim > 1) == wide] for wide in (True, False))
    parts = {**group, "params": matrices}, {**group, "params": vectors, "weight_decay": 0.0}
    return [part for part in parts if part["params"]]


def hidden_matrices(masters: Mapping[str, Tensor]) -> list[Tensor]:
    """The matrices between embedding and head, which Muon is made for."""
    return [
        weight for name, weight in masters.items() if weight.ndim == 2 and not any(word in name for word in _OUTSIDE)
    ]
