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
    """What a line search found: the share of the step that was taken (0: refused), and the loss and KL there."""

    share: float
    loss: float
    kl: float


def line_search(
    at: Callable[[float], tuple[float, float]], loss_before: float, delta: float, backtracks: int, shrink: float
) -> Searched:
    """The first share 1, shrink, shrink^2, ... of a step that lowers the loss within the bound of the KL.

    Args:
        at: the loss and the KL with that share of the step taken; called with 0 at last, if every share was refused.
    """
    for i in range(backtracks):
        share = shrink**i
        loss, kl = at(share)
        if loss < loss_before and kl <= delta:  # false for NaN, too
            return Searched(share, loss, kl)
    at(0.0)
    return Searched(0.0, loss_before, 0.0)
