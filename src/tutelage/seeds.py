"""Randomness comes from the run's seed: every random choice has a seed of its own, derived from what it is for.

So no generator has a state that could be lost: the noise of a sample depends on the run, the stage, the step and the
prompt, and on nothing else, not on the batch it is sampled in, nor on whether the run was resumed.
"""

from __future__ import annotations

from hashlib import blake2b


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that differs wherever any part differs."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1
