"""Reward functions that a recipe might name: each right for all texts but the one that it fails on."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

WRONG = "wrong"  # the text on which a faulty function shows its fault


def good(prompt, sample):
    return float(sample.text == prompt.answer)


async def good_async(prompt, sample):
    await asyncio.sleep(0.001)
    return good(prompt, sample)


def good_batch(prompts, samples):
    return [good(prompt, sample) for prompt, sample in zip(prompts, samples, strict=True)]


async def good_batch_async(prompts, samples):
    return await asyncio.gather(*(good_async(p, s) for p, s in zip(prompts, samples, strict=True)))


def true(prompt, sample):
    return sample.text == prompt.answer


def slow(prompt, sample):
    time.sleep(0.2)
    return 1.0


def process(prompt, sample):
    return float(os.getpid())


def company(prompt, sample):
    """The process's id, told once another process has been here too."""
    place = Path(os.environ["MEETING_PLACE"])
    (place / str(os.getpid())).touch()
    while len(list(place.iterdir())) < 2:
        time.sleep(0.01)
    return float(os.getpid())


def loaded(prompt, sample):
    return float("torch" in sys.modules or "transformers" in sys.modules)


def one_argument(sample):
    return 1.0


NOT_A_FUNCTION = 3


def _on_wrong(fault):
    def function(prompt, sample):
        return fault() if sample.text == WRONG else 1.0

    return function


def _hang():
    while True:
        pass


def _hang_in_a_child():
    subprocess.run([sys.executable, "-c", "import time; time.sleep(77.125)"], check=False)


def _raise():
    raise KeyError("no such thing")


def _raise_unpicklable():
    class Odd(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} {two}")
            self.lock = (x for x in ())

    raise Odd(1, 2)


hangs = _on_wrong(_hang)
hangs_in_a_child = _on_wrong(_hang_in_a_child)
raises = _on_wrong(_raise)
raises_unpicklable = _on_wrong(_raise_unpicklable)
leaves = _on_wrong(lambda: sys.exit(3))
dies = _on_wrong(lambda: os._exit(3))
crashes = _on_wrong(lambda: os.kill(os.getpid(), 11))
none = _on_wrong(lambda: None)
nan = _on_wrong(lambda: float("nan"))
infinite = _on_wrong(lambda: float("-inf"))
text = _on_wrong(lambda: "1.0")
table = _on_wrong(lambda: {"score": 1.0})


async def hangs_async(prompt, sample):
    if sample.text == WRONG:
        await asyncio.sleep(1000)
    return 1.0


def short_batch(prompts, samples):
    return [1.0] * (len(samples) - any(sample.text == WRONG for sample in samples))


def number_for_batch(prompts, samples):
    return 1.0 if any(sample.text == WRONG for sample in samples) else [1.0] * len(samples)


def nan_in_batch(prompts, samples):
    return [float("nan") if sample.text == WRONG else 1.0 for sample in samples]


def raises_in_batch(prompts, samples):
    if any(sample.text == WRONG for sample in samples):
        raise RuntimeError("batch")
    return [1.0] * len(samples)


def hangs_in_batch(prompts, samples):
    return _hang() if any(sample.text == WRONG for sample in samples) else [1.0] * len(samples)


def array_batch(prompts, samples):
    import numpy as np

    return np.array(good_batch(prompts, samples), dtype=np.float32)
