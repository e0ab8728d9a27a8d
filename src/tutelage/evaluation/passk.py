"""What k of a question's samples are worth together: by the best of them, by their vote, by a reward's choice.

Each estimator is the mean over all subsets of k of the n samples there are, computed without drawing one: unbiased,
and of the least variance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb

from tutelage.evaluation.summary import Scores, valid


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The unbiased estimator from `samples` draws of which `correct` were right (Chen et al., 2021).

    arXiv 2107.03374, equation 1: 1 - C(n - c, k) / C(n, k), the share of all subsets of k draws that hold a
    right one.
    """
    if not 0 <= correct <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {samples} samples with {correct} right: k must be 1 .. samples")
    misses = 1.0
    for i in range(samples - correct + 1, samples + 1):
        misses *= max(0.0, 1 - k / i)
    return 1 - misses


def majority_at_k(camps: Sequence[tuple[int, float]], silent: int, k: int) -> float:
    """The expected score of the answer that most of k samples give (self-consistency, Wang et al., 2203.11171).

    Of answers with equally many votes each is as likely to be taken; where nobody answers, the score is 0.

    Args:
        camps: for each different answer, how many samples give it and what it scores.
        silent: samples without an answer: they have no vote, but may be among the k.
    """
    n = silent + sum(size for size, _ in camps)
    if not 1 <= k <= n:
        raise ValueError(f"maj@{k} of {n} samples: k must be 1 .. samples")
    won = sum(_won_with(votes, camps, silent, k) for votes in range(1, k + 1))
    return won / comb(n, k)


def _won_with(votes: int, camps: Sequence[tuple[int, float]], silent: int, k: int) -> float:
    """Over the subsets whose largest camps have exactly so many votes, the sum of what the winner scores.

    State: samples taken, camps that have as many; how many subsets there are, and the sum of those camps' scores.
    """
    states = {(taken, 0): (comb(silent, taken), 0.0) for taken in range(min(silent, k) + 1)}
    for size, score in camps:
        after: dict[tuple[int, int], tuple[int, float]] = {}
        for (taken, tied), (subsets, scored) in states.items():
            for more in range(min(size, votes, k - taken) + 1):
                ways, wins = comb(size, more), more == votes
                place = (taken + more, tied + wins)
                there, sum_there = after.get(place, (0, 0.0))
                gained = ways * (scored + subsets * score * wins)
                after[place] = (there + ways * subsets, sum_there + gained)
        states = after
    return sum(scored / tied for (taken, tied), (_, scored) in states.items() if taken == k and tied)


def best_at_n(samples: Sequence[tuple[float, float]], n: int) -> float:
    """The expected score of the sample, of n, that a reward likes best. Of equally liked ones any may be taken.

    Args:
        samples: what the reward says of each, and what it scores.
    """
    total = len(samples)
    if not 1 <= n <= total:
        raise ValueError(f"best@{n} of {total} samples: n must be 1 .. samples")
    ordered = sorted(samples, key=lambda one: -one[0])
    expected, place = 0.0, 0
    while place < total:
        alike = [score for reward, score in ordered[place:] if reward == ordered[place][0]]
        chance = comb(total - place, n) - comb(total - place - len(alike), n)  # subsets whose best is one of these
        expected += chance / comb(total, n) * sum(alike) / len(alike)
        place += len(alike)
    return expected


def pass_at_k_scores(scores: Scores, k: int, threshold: float = 1.0) -> dict[str, list[float | None]]:
    """Each question's pass@k, in the shape that `summarise` and `compare` take.

    A sample is right from `threshold` on. A question with fewer than k scored samples is failed (None).
    """
    estimates: dict[str, list[float | None]] = {}
    for question, given in scores.items():
        values = valid(given)
        correct = sum(value >= threshold for value in values)
        estimates[question] = [pass_at_k(len(values), correct, k) if len(values) >= k else None]
    return estimates


def majority_at_k_scores(
    scores: Scores, camps: Mapping[str, Sequence[float | None]], k: int
) -> dict[str, list[float | None]]:
    """Each question's maj@k, in the same shape.

    Args:
        camps: which answer each sample gives, by a number from 0 on; below 0: none. None: it could not be read.
    """
    estimates: dict[str, list[float | None]] = {}
    for question, given in scores.items():
        pairs = _both(given, camps[question])
        members: dict[float, list[float]] = {}
        for score, camp in pairs:
            members.setdefault(max(camp, -1.0), []).append(score)
        silent = len(members.pop(-1.0, []))
        answers = [(len(own), sum(own) / len(own)) for own in members.values()]
        estimates[question] = [majority_at_k(answers, silent, k) if len(pairs) >= k else None]
    return estimates


def best_at_n_scores(
    scores: Scores, rewards: Mapping[str, Sequence[float | None]], n: int
) -> dict[str, list[float | None]]:
    """Each question's best-of-n by a reward, in the same shape.

    Args:
        rewards: what the reward says of each sample.
    """
    estimates: dict[str, list[float | None]] = {}
    for question, given in scores.items():
        pairs = [(reward, score) for score, reward in _both(given, rewards[question])]
        estimates[question] = [best_at_n(pairs, n) if len(pairs) >= n else None]
    return estimates


def _both(scores: Sequence[float | None], others: Sequence[float | None]) -> list[tuple[float, float]]:
    """The samples of which both are known."""
    together = zip(scores, others, strict=True)
    return [(score, other) for score, other in together if score is not None and other is not None]
