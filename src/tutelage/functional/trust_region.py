"""The pieces of a trust-region step on flat vectors [D]: conjugate gradients, the longest step, the line search.

Schulman et al., 2015, Trust Region Policy Optimization (1502.05477), section 6 and appendix C.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], target_D: Tensor, iterations: int, tolerance: float = 1e-10
) -> Tensor:
    """[D] x with product(x) = target, nearly; product is linear, symmetric and positive definite.

    Args:
        tolerance: stops where the squared residual is below this share of the target's square.
    """
    x_D = torch.zeros_like(target_D)
    residual_D, direction_D = target_D.clone(), target_D.clone()
    square = first = residual_D.dot(residual_D)
    for _ in range(iterations):
        if square <= tolerance * first:
            break
        image_D = product(direction_D)
        length = square / direction_D.dot(image_D)
        x_D.add_(length * direction_D)
        residual_D.sub_(length * image_D)
        before, square = square, residual_D.dot(residual_D)
        direction_D.mul_(square / before).add_(residual_D)
    return x_D


def longest_step(direction_D: Tensor, image_D: Tensor, delta: float) -> Tensor:
    """[D] as far along the direction as 1/2 x F x = delta allows; `image_D` is F times the direction.

    0 for a direction of length 0.
    """
    curvature = direction_D.dot(image_D)
    return direction_D * torch.sqrt(2.0 * delta / curvature) if curvature > 0 else torch.zeros_like(direction_D)


@dataclass(frozen=True, slots=True)
class Searched:
    """What a line search found: the share of the step that was taken (0: refused), and the KL there."""

    share: float
    kl: float


def line_search(
    go_to: Callable[[float], float],
    loss_here: Callable[[], float],
    loss_before: float,
    delta: float,
    backtracks: int,
    shrink: float,
) -> Searched:
    """The first share 1, shrink, shrink^2, ... of a step that lowers the loss within the bound of the KL.

    Args:
        go_to: takes that share of the step and returns the KL there; called with 0 at last, if all were refused.
        loss_here: the loss at the share taken last; asked for only within the bound.
    """
    for i in range(backtracks):
        share = shrink**i
        kl = go_to(share)
        if kl <= delta and loss_here() < loss_before:  # both false for NaN
            return Searched(share, kl)
    go_to(0.0)
    return Searched(0.0, 0.0)
