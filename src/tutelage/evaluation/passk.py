"""pass@k: the chance that at least one of k samples is right."""

from __future__ import annotations

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
