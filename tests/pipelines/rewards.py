"""A user's own rewards, apart from what needs torch: every worker process loads this file, and quickly."""

from __future__ import annotations

from tutelage.types import Prompt, Sample


def share_of_digits(prompt: Prompt, sample: Sample) -> float:
    """What a tiny random model can learn in seconds: to write digits."""
    return sum(character.isdigit() for character in sample.text) / max(1, len(sample.text))


def fails_on_odd_samples(prompt: Prompt, sample: Sample) -> float:
    if sample.index % 2:
        raise RuntimeError("the grader is tired")
    return share_of_digits(prompt, sample)
