"""How well a process reward model agrees with the labels of steps: one by one, and on where errors begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from tutelage.evaluation.calibration import calibration_error
from tutelage.evaluation.summary import summarise

_RIGHT = 0.5  # a step is right, or is taken for it, above this


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of one answer: how probably right the model finds each, and how right it was judged to be."""

    probabilities: Sequence[float]
    labels: Sequence[float]

    @property
    def agreeing(self) -> list[float | None]:
        """1 for each step that both find right, or both wrong; else 0."""
        pairs = zip(self.probabilities, self.labels, strict=True)
        return [float((probability > _RIGHT) == (label > _RIGHT)) for probability, label in pairs]

    @property
    def located(self) -> bool:
        """Does the model name the first wrong step, or none where there is none?"""
        return _first_wrong(self.probabilities) == _first_wrong(self.labels)


def report(answers: Sequence[Steps]) -> dict[str, Any]:
    """Of the steps of all answers:

    - `accuracy`: the share that the model finds right, above 1/2, where they were judged so, and wrong where not: a
      mean over answers with its interval (whole answers are resampled: the steps of one are not independent);
    - `calibration_error`: how far the labels lie from its probabilities;
    - `first_error`, as ProcessBench (2412.06559) has it: of the answers with a wrong step the share whose first one it
      names exactly (`found`), of the others the share in which it names none (`clean`), and their harmonic mean `f1`.
      The paper tunes the threshold on one of its parts; here it is 1/2. None where there is no such answer.
    """
    flawed = [one for one in answers if _first_wrong(one.labels) is not None]
    sound = [one for one in answers if _first_wrong(one.labels) is None]
    found, clean = _located(flawed), _located(sound)
    f1 = None
    if found is not None and clean is not None:
        f1 = 2.0 * found["mean"] * clean["mean"] / max(found["mean"] + clean["mean"], 1e-12)
    return {
        "answers": len(answers),
        "steps": sum(len(one.labels) for one in answers),
        "accuracy": summarise({str(number): one.agreeing for number, one in enumerate(answers)}).numbers,
        "calibration_error": calibration_error(
            list(chain.from_iterable(one.probabilities for one in answers)),
            list(chain.from_iterable(one.labels for one in answers)),
        ),
        "first_error": {"found": found, "clean": clean, "f1": f1},
    }


def _located(answers: Sequence[Steps]) -> dict[str, Any] | None:
    """The share of these answers that are judged as they are, with its interval."""
    return summarise({str(i): [float(one.located)] for i, one in enumerate(answers)}).numbers if answers else None


def _first_wrong(shares: Sequence[float]) -> int | None:
    return next((place for place, share in enumerate(shares) if share <= _RIGHT), None)
