"""pass@k by enumeration of all subsets."""

from itertools import combinations

import pytest

from tutelage.evaluation import pass_at_k, pass_at_k_scores, summarise


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_equals_the_share_of_subsets_that_hold_a_right_one(n):
    for correct in range(n + 1):
        draws = [1] * correct + [0] * (n - correct)
        for k in range(1, n + 1):
            subsets = list(combinations(draws, k))
            expected = sum(any(subset) for subset in subsets) / len(subsets)
            assert pass_at_k(n, correct, k) == pytest.approx(expected, abs=1e-12)


def test_is_stable_for_many_samples():
    assert pass_at_k(10_000, 1, 5_000) == pytest.approx(0.5)


@pytest.mark.parametrize(("n", "correct", "k"), [(3, 1, 4), (3, 4, 1), (3, 1, 0), (0, 0, 1)])
def test_refuses_impossible_counts(n, correct, k):
    with pytest.raises(ValueError, match="pass@"):
        pass_at_k(n, correct, k)


def test_scores_go_on_into_a_summary():
    scores = {
        "a": [1.0, 0.0, 0.0, 0.0],
        "b": [0.0] * 4,
        "c": [1.0, 0.9, None, None],
        "d": [1.0, None, None, None],
    }
    estimates = pass_at_k_scores(scores, 2)
    assert estimates == {"a": [0.5], "b": [0.0], "c": [1.0], "d": [None]}
    summary = summarise(estimates)
    assert (summary.mean, summary.n, summary.failed) == (0.5, 3, 1)
    assert pass_at_k_scores(scores, 1, threshold=0.5)["c"] == [1.0]
