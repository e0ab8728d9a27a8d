"""Accelerators by name, as their makers publish them, and how much of that a step was assumed to reach.

Nothing here was measured by us: a plan for an accelerator says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tutelage.config import nearest
from tutelage.errors import ConfigError

LEARNING = 0.4  # of the peak: what dense models of some billions reach in training (PaLM, 2204.02311: 46 %)
SAMPLING = 0.5  # of the bandwidth
CONTEXT = 0.7e9  # bytes that the driver's context and kernels take


@dataclass(frozen=True, slots=True)
class Accelerator:
    """Data sheet: dense bf16 operations a second, bytes a second, bytes."""

    flops: float
    bandwidth: float
    memory: float


ACCELERATORS: Final = {
    "a100-40": Accelerator(312e12, 1.555e12, 40e9),
    "a100-80": Accelerator(312e12, 2.039e12, 80e9),
    "h100": Accelerator(989e12, 3.35e12, 80e9),
    "h200": Accelerator(989e12, 4.8e12, 141e9),
    "l4": Accelerator(121e12, 0.3e12, 24e9),
    "l40s": Accelerator(362e12, 0.864e12, 48e9),
    "rtx3090": Accelerator(71e12, 0.936e12, 24e9),
    "rtx4090": Accelerator(165e12, 1.008e12, 24e9),
}


def accelerator(name: str) -> Accelerator:
    """Raises ConfigError for a name that is not here."""
    if name not in ACCELERATORS:
        raise ConfigError(f"--on {name}: no figures for it: {nearest(name, list(ACCELERATORS))}")
    return ACCELERATORS[name]
