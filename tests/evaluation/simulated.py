"""What intervals and tests promise, against simulated truth. `python -m tests.evaluation.simulated` prints the figures
of docs/evaluation.md.

The house's bootstrap draws the same questions for the same seed and number of questions. So one matrix of counts stands
for the resamples of all simulated evaluations, and their intervals are one product; test_coverage holds it to
`bootstrap_mean` and `bootstrap_ratio`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tutelage.evaluation import corrected, detectable
from tutelage.evaluation.intervals import widening, wilson
from tutelage.evaluation.paired import mcnemar
from tutelage.evaluation.summary import MCNEMAR, Comparison

Floats = NDArray[np.float64]
RUNS = 2000


def counts(n: int, resamples: int, seed: int = 0) -> Floats:
    """[resamples, n]: how often each resample holds each question."""
    drawn = np.random.default_rng(seed).integers(0, n, (resamples, n))
    found = np.zeros((resamples, n))
    np.add.at(found, (np.arange(resamples)[:, None], drawn), 1)
    return found


def intervals(over_SN: Floats, under_SN: Floats | None = None, resamples: int = 1000) -> tuple[Floats, Floats]:
    """[S], [S]: the ends of every simulation's 95 % bootstrap interval of a mean, or of a ratio of sums."""
    n = over_SN.shape[1]
    under_SN = np.ones_like(over_SN) if under_SN is None else under_SN
    drawn = counts(n, resamples)
    found = over_SN.sum(1) / under_SN.sum(1)
    resampled = (drawn @ over_SN.T) / (drawn @ under_SN.T)
    widened = found + (resampled - found) * widening(n, n - 1)
    low, high = np.quantile(widened, [0.025, 0.975], axis=0)
    return low, high


def covered(ends: tuple[Floats, Floats], truth: float) -> float:
    low, high = ends
    return float(((low <= truth) & (truth <= high)).mean())


def wilson_coverage(n: int, share: float, rng: np.random.Generator) -> float:
    """Right or wrong answers to n questions, of which a share is right in the long run."""
    ends = np.array([wilson(right, n) for right in range(n + 1)])[rng.binomial(n, share, RUNS)]
    return covered((ends[:, 0], ends[:, 1]), share)


def bootstrap_coverage(n: int, rng: np.random.Generator, resamples: int = 1000) -> float:
    """Scores between 0 and 1, one sample a question: skewed, most of them low."""
    return covered(intervals(rng.beta(1, 3, (RUNS, n)), resamples=resamples), 0.25)


def clustered_coverage(n: int, samples: int, rng: np.random.Generator, by_question: bool = True) -> float:
    """Right or wrong, several samples a question, whose difficulties differ: many are nearly always right or wrong."""
    right = rng.binomial(1, rng.beta(0.5, 0.5, (RUNS, n, 1)), (RUNS, n, samples)).astype(float)
    if by_question:
        return covered(intervals(right.mean(2)), 0.5)
    flat = right.reshape(RUNS, -1)
    half = 1.96 * np.sqrt(flat.var(1, ddof=1) / flat.shape[1])
    return covered((flat.mean(1) - half, flat.mean(1) + half), 0.5)


def ratio_coverage(n: int, rng: np.random.Generator, resamples: int = 1000) -> float:
    """Bits a byte of n texts whose lengths differ by an order of magnitude; each costs 40 bits to begin with."""
    bytes_SN = rng.lognormal(6.0, 0.7, (RUNS, n))
    bits_SN = bytes_SN * rng.normal(1.9, 0.25, (RUNS, n)) + 40.0
    return covered(intervals(bits_SN, bytes_SN, resamples), 1.9 + 40.0 / math.exp(6.0 + 0.7**2 / 2))


def found_share(n: int, change: float, turned: float, rng: np.random.Generator) -> float:
    """How often McNemar's test finds a planted change of right answers, with p < 0.05.

    Args:
        turned: the share of questions that change one way or the other.
    """
    p_gain, p_loss = (turned + change) / 2, (turned - change) / 2
    drawn = rng.multinomial(n, [p_gain, p_loss, 1 - turned], RUNS)
    return float(np.mean([_p_value(int(gained), int(lost)) < 0.05 for gained, lost, _ in drawn]))


_p_value = cache(mcnemar)


def questions_for(change: float, turned: float) -> int:
    """The questions with which `detectable` says that a change of this size is just found."""
    deviation = math.sqrt(turned - change**2)
    return next(n for n in range(10, 100_000) if detectable(deviation, n, counted=True) <= change)


def claimed_share(models: int, n: int, rng: np.random.Generator, correct: bool) -> float:
    """How often any of several models, none better than the first, is said to have changed. Compared with the first,
    all by the same questions, as an evaluation table does it; right answers agree as those of kindred models do."""
    easy = rng.beta(0.6, 0.6, (RUNS, n))
    right = rng.random((models, RUNS, n)) < easy
    claimed = 0
    for run in range(RUNS):
        first, *others = right[:, run]
        pairs = [(int((~first & other).sum()), int((first & ~other).sum())) for other in others]
        told = [Comparison(0.0, None, None, _p_value(*pair), n, MCNEMAR) for pair in pairs]
        kept = corrected(told) if correct else told
        claimed += any(one is not None and one.measurable for one in kept)
    return claimed / RUNS


def _figures() -> Iterator[str]:
    rng = np.random.default_rng(0)
    for n, share in ((120, 0.5), (120, 0.62), (120, 0.9), (500, 0.3), (500, 0.97)):
        yield f"Wilson, {n} questions, {share:.0%} right: {wilson_coverage(n, share, rng):.1%}"
    for n in (30, 60, 120, 250):
        yield f"bootstrap over questions, {n} questions: {bootstrap_coverage(n, rng):.1%}"
    for n in (30, 60, 120, 250):
        yield (
            f"clustered, {n} questions of 8 samples: {clustered_coverage(n, 8, rng):.1%}; "
            f"as if independent: {clustered_coverage(n, 8, rng, by_question=False):.1%}"
        )
    for n in (30, 60, 120, 250):
        yield f"ratio, {n} texts: {ratio_coverage(n, rng):.1%}"
    for turned in (0.1, 0.2, 0.4):
        n = questions_for(0.05, turned)
        yield f"5 points, {turned:.0%} of answers turn, {n} questions: found {found_share(n, 0.05, turned, rng):.1%}"
        yield f"   none planted: claimed {found_share(n, 0.0, turned, rng):.1%}"
    for models in (2, 5, 10):
        bare, kept = (claimed_share(models, 200, rng, correct) for correct in (False, True))
        yield f"{models} equal models: any change claimed {bare:.1%} uncorrected, {kept:.1%} after Holm"
    yield from _figures_of_runs(rng)


def runs_coverage(runs: int, tasks: int, rng: np.random.Generator, simulations: int = 500) -> float:
    """The interval of the interquartile mean over runs, of tasks with scores of their own and alike spreads."""
    from tutelage.evaluation import interquartile_mean, stratified_bootstrap

    means = np.linspace(0.3, 0.7, tasks) if tasks > 1 else np.array([0.5])
    truth = interquartile_mean(rng.normal(means, 0.05, (100_000, tasks)))
    inside = 0
    for seed in range(simulations):
        low, high = stratified_bootstrap(rng.normal(means, 0.05, (runs, tasks)), resamples=500, seed=seed)
        inside += low <= truth <= high
    return inside / simulations


def _figures_of_runs(rng: np.random.Generator) -> Iterator[str]:
    for runs, tasks in ((3, 1), (5, 1), (10, 1), (3, 10), (5, 10), (10, 10)):
        yield f"interquartile mean, {runs} runs on {tasks} tasks: {runs_coverage(runs, tasks, rng):.1%}"


if __name__ == "__main__":
    for line in _figures():
        print(line, flush=True)
