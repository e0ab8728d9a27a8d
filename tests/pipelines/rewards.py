"""A user's own rewards, apart from what needs torch: every worker process loads this file, and quickly."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import ClassVar

from tutelage.rewards import Reward
from tutelage.types import Prompt, Sample


def share_of_digits(prompt: Prompt, sample: Sample) -> float:
    """What a tiny random model can learn in seconds: to write digits."""
    return sum(character.isdigit() for character in sample.text) / max(1, len(sample.text))


def fails_on_odd_samples(prompt: Prompt, sample: Sample) -> float:
    if sample.index % 2:
        raise RuntimeError("the grader is tired")
    return share_of_digits(prompt, sample)


class Digits(Reward):
    """The share of digits, scored in this very process. Of odd sums' answers some, or all, cannot be scored."""

    isolated: ClassVar[bool] = False
    type: str = "tests.pipelines.rewards:Digits"

    def score(self, prompt: Prompt, sample: Sample) -> float:
        share = share_of_digits(prompt, sample)
        last = (prompt.answer or "0")[-1]
        if last in "135" or (last in "79" and not share):
            raise RuntimeError("the grader is tired")
        return share


def leaves_a_child(prompt: Prompt, sample: Sample) -> float:
    """Starts something that outlives it, as graders do. It keeps no stream open, which somebody would wait for."""
    nothing = subprocess.DEVNULL
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99.0625)"], stdout=nothing, stderr=nothing)
    return share_of_digits(prompt, sample)


def hangs(prompt: Prompt, sample: Sample) -> float:
    while True:
        time.sleep(1.0)
