"""pass@k, maj@k and best@n by enumeration of all subsets."""

from collections import Counter
from itertools import combinations
from math import comb
from random import Random

import numpy as np
import pytest

from tutelage.evaluation import (
    best_at_n,
    best_at_n_scores,
    majority_at_k,
    majority_at_k_scores,
    pass_at_k,
    pass_at_k_scores,
    summarise,
)


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


def vote(samples):
    """What the majority of some samples scores: the mean over the camps with the most votes; 0 where nobody votes."""
    votes = Counter(camp for camp, _ in samples if camp >= 0)
    score = dict(samples)
    most = max(votes.values(), default=0)
    winners = [camp for camp, size in votes.items() if size == most]
    return sum(score[camp] for camp in winners) / len(winners) if winners else 0.0


@pytest.mark.parametrize("seed", range(8))
def test_majority_at_k_is_the_mean_over_all_subsets(seed):
    chance = Random(seed)
    n = chance.randint(1, 8)
    camps = [chance.choice([-1, 0, 0, 1, 2, 2]) for _ in range(n)]  # camp 2 is right
    samples = [(camp, float(camp == 2)) for camp in camps]
    for k in range(1, n + 1):
        expected = sum(vote(some) for some in combinations(samples, k)) / comb(n, k)
        scores = {"q": [score for _, score in samples]}
        found = majority_at_k_scores(scores, {"q": [float(camp) for camp in camps]}, k)
        assert found["q"] == [pytest.approx(expected, abs=1e-12)]


def test_majority_of_many_samples_is_quick_and_bounded():
    assert majority_at_k([(40, 1.0), (24, 0.0)], 0, 64) == 1.0
    assert majority_at_k([(32, 1.0), (32, 0.0)], 0, 63) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="maj@3 of 2"):
        majority_at_k([(2, 1.0)], 0, 3)


@pytest.mark.parametrize("seed", range(6))
def test_best_at_n_is_the_mean_over_all_subsets(seed):
    chance = Random(seed)
    total = chance.randint(1, 7)
    samples = [(float(chance.randint(0, 3)), chance.random()) for _ in range(total)]
    for n in range(1, total + 1):
        best = []
        for some in combinations(samples, n):
            likes = [score for reward, score in some if reward == max(reward for reward, _ in some)]
            best.append(sum(likes) / len(likes))
        assert best_at_n(samples, n) == pytest.approx(sum(best) / len(best), abs=1e-12)


def test_what_could_not_be_scored_is_no_sample():
    scores, rewards = {"q": [1.0, None, 0.0]}, {"q": [0.2, 9.0, 0.1]}
    assert best_at_n_scores(scores, rewards, 2) == {"q": [1.0]}
    assert best_at_n_scores(scores, rewards, 3) == {"q": [None]}
    assert majority_at_k_scores(scores, {"q": [0.0, 0.0, None]}, 1) == {"q": [1.0]}


def test_estimates_from_few_samples_are_unbiased():
    """5,000 questions of 6 samples: each estimate's mean is what k fresh samples give."""
    rng = np.random.default_rng(5)
    answers = rng.choice(4, (5000, 6), p=[0.45, 0.3, 0.2, 0.05]) - 1.0  # -1: none; 0 is right
    fresh = rng.choice(4, (20_000, 3), p=[0.45, 0.3, 0.2, 0.05]) - 1.0
    names = [str(i) for i in range(len(answers))]
    camps = dict(zip(names, answers.tolist(), strict=True))
    scores = {name: [float(camp == 0) for camp in given] for name, given in camps.items()}
    passed, won = pass_at_k_scores(scores, 3), majority_at_k_scores(scores, camps, 3)
    assert np.mean(list(passed.values())) == pytest.approx(1 - 0.7**3, abs=0.015)
    of_fresh = [vote([(camp, float(camp == 0)) for camp in some]) for some in fresh.tolist()]
    assert np.mean(list(won.values())) == pytest.approx(np.mean(of_fresh), abs=0.015)
