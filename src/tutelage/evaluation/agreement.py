"""How well a reward model's scores agree with judgements: pairs in the right order, by margin, calibration, length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from tutelage.evaluation.calibration import calibration_error
from tutelage.evaluation.summary import Summary, summarise

_PARTS = 3  # of the pairs, by how far apart they were judged


@dataclass(frozen=True, slots=True)
class Compared:
    """The answers to one prompt: what the model scored each, and what it was judged to be worth."""

    scores: Sequence[float]
    judged: Sequence[float]
    lengths: Sequence[int]  # in tokens


@dataclass(frozen=True, slots=True)
class _Pair:
    prompt: int
    lead: float  # of the answer that was judged better
    margin: float
    longer: int  # by so many tokens; below 0: shorter

    @property
    def right(self) -> float:
        return 1.0 if self.lead > 0 else 0.5 if self.lead == 0 else 0.0

    @property
    def claimed(self) -> float:
        """The probability that the model claims for its choice."""
        return 1.0 / (1.0 + math.exp(-min(abs(self.lead), 500.0)))


def report(answers: Sequence[Compared]) -> dict[str, Any]:
    """Of all pairs of answers that were judged apart:

    - `accuracy`: the share that the model orders as the judges did, a mean over prompts with its interval (whole
      prompts are resampled: the pairs of one are not independent);
    - `by_margin`: the same for the third that was judged closest together, the middle one, and the farthest;
    - `calibration_error`: how far the share that is right lies from the probability sigmoid(difference of scores) that
      the model claims for its choice;
    - `length`: how far the scores follow length, and the judgements themselves.
    """
    pairs = [pair for prompt, one in enumerate(answers) for pair in _pairs(prompt, one)]
    if not pairs:
        return {"pairs": 0}
    ordered = sorted(pairs, key=lambda pair: pair.margin)
    parts = [ordered[len(pairs) * i // _PARTS : len(pairs) * (i + 1) // _PARTS] for i in range(_PARTS)]
    return {
        "pairs": len(pairs),
        "prompts": len({pair.prompt for pair in pairs}),
        "accuracy": _accuracy(pairs).numbers,
        "by_margin": [
            {"least": part[0].margin, "most": part[-1].margin, "pairs": len(part), **_accuracy(part).numbers}
            for part in parts
            if part
        ],
        "calibration_error": calibration_error([pair.claimed for pair in pairs], [pair.right for pair in pairs], 0.5),
        "length": _length(pairs),
    }


def _length(pairs: Sequence[_Pair]) -> dict[str, Any]:
    """How far length decides: a preference for longer answers is the best known bias of reward models (2310.03716).

    - `scores`, `judged`: the correlation of differences in score, or in judgement, with those in length, over both
      orders of each pair; None where there are none;
    - `longer_is_better`, `shorter_is_better`: the accuracy where the better answer is the longer, or the shorter one.
    """
    lengths = [pair.longer for pair in pairs]
    parts = {
        "longer_is_better": [pair for pair in pairs if pair.longer > 0],
        "shorter_is_better": [pair for pair in pairs if pair.longer < 0],
    }
    return {
        "scores": _correlation([pair.lead for pair in pairs], lengths),
        "judged": _correlation([pair.margin for pair in pairs], lengths),
        **{name: {"pairs": len(part), **(_accuracy(part).numbers if part else {})} for name, part in parts.items()},
    }


def _correlation(differences: Sequence[float], others: Sequence[float]) -> float | None:
    """Pearson's, of pairs taken in both orders: all means are 0 then."""
    norm = math.hypot(*differences) * math.hypot(*others)
    return sum(a * b for a, b in zip(differences, others, strict=True)) / norm if norm else None


def _pairs(prompt: int, one: Compared) -> list[_Pair]:
    pairs: list[_Pair] = []
    for i, j in combinations(range(len(one.judged)), 2):
        margin = one.judged[i] - one.judged[j]
        if margin:
            lead = (one.scores[i] - one.scores[j]) * math.copysign(1.0, margin)
            longer = (one.lengths[i] - one.lengths[j]) * (1 if margin > 0 else -1)
            pairs.append(_Pair(prompt, lead, abs(margin), longer))
    return pairs


def _accuracy(pairs: Sequence[_Pair]) -> Summary:
    of_prompts: dict[str, list[float | None]] = {}
    for pair in pairs:
        of_prompts.setdefault(str(pair.prompt), []).append(pair.right)
    return summarise(of_prompts)
