"""Intervals against published values, scipy and simulated truth."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm, t

from tutelage.evaluation import intervals
from tutelage.evaluation.intervals import (
    blocks,
    bootstrap_mean,
    bootstrap_ratio,
    paired_share_difference,
    widening,
    wilson,
)


def test_wilson_equals_the_published_example():
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (successes, n), expected in published.items():
        assert wilson(successes, n) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (3, 7), (96, 200), (200, 200), (4999, 10_000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_equals_scipy(successes, n, confidence):
    expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert wilson(successes, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 4)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match="successes"):
        wilson(successes, n)


def test_paired_difference_by_hand():
    # 9 gained, 1 lost of 18: p12 = 10/20, p21 = 2/20, difference 0.4, variance (0.6 - 0.16) / 20.
    half = 1.959964 * (0.44 / 20) ** 0.5
    assert paired_share_difference(9, 1, 18) == pytest.approx((0.4 - half, 0.4 + half), abs=1e-6)
    low, high = paired_share_difference(0, 0, 50)
    assert low < 0 < high  # no change seen is not a change of exactly 0
    assert paired_share_difference(5, 0, 5)[1] <= 1


@pytest.mark.parametrize(("p_gain", "p_loss", "n"), [(0.4, 0.02, 60), (0.1, 0.1, 40), (0.05, 0.01, 200)])
def test_paired_difference_covers_the_truth(p_gain, p_loss, n):
    rng = np.random.default_rng(1)
    counts = rng.multinomial(n, [p_gain, p_loss, 1 - p_gain - p_loss], 2000)
    covered = 0
    for gained, lost, _ in counts:
        low, high = paired_share_difference(int(gained), int(lost), n)
        covered += low <= p_gain - p_loss <= high
    assert 0.93 <= covered / 2000 <= 0.995


def test_bootstrap_covers_the_truth():
    rng = np.random.default_rng(2)
    covered = sum(
        low <= 0.25 <= high
        for low, high in (bootstrap_mean(rng.beta(1, 3, 40), resamples=1000, seed=i) for i in range(1000))
    )
    assert 0.93 <= covered / 1000 <= 0.97


def test_samples_of_one_question_are_not_independent():
    """50 questions, each always or never right, 20 samples of each: resampling samples covers too little."""
    rng = np.random.default_rng(3)
    clustered = flat = 0
    for i in range(200):
        questions = (rng.random(50) < 0.5).astype(float)
        low, high = bootstrap_mean(questions, resamples=500, seed=i)
        clustered += low <= 0.5 <= high
        low, high = bootstrap_mean(np.repeat(questions, 20), resamples=200, seed=i)
        flat += low <= 0.5 <= high
    assert clustered / 200 >= 0.92
    assert flat / 200 < 0.6


def test_bootstrap_is_seeded_centred_and_as_wide_as_theory_says():
    values = np.random.default_rng(4).normal(3.0, 2.0, 400)
    low, high = bootstrap_mean(values, seed=5)
    assert (low, high) == bootstrap_mean(values, seed=5) != bootstrap_mean(values, seed=6)
    half = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


def test_a_small_evaluation_does_not_look_too_sure():
    """The bare percentile interval of 6 values is 30 % narrower than Student's."""
    widths, theory = 0.0, 0.0
    for i in range(50):
        values = np.random.default_rng(i).normal(0.0, 1.0, 6)
        low, high = bootstrap_mean(values, resamples=2000, seed=i)
        widths += high - low
        theory += 2 * t.ppf(0.975, 5) * values.std(ddof=1) / 6**0.5
    assert widths / theory == pytest.approx(1.0, abs=0.04)


@pytest.mark.parametrize("freedom", [3, 5, 29, 500])
def test_the_widening_is_students(freedom):
    expected = t.ppf(0.975, freedom) / norm.ppf(0.975)
    assert widening(10**9, freedom) == pytest.approx(expected, rel=0.01)


def test_bootstrap_needs_two_questions():
    with pytest.raises(ValueError, match="one question"):
        bootstrap_mean(np.array([0.5]))
    with pytest.raises(ValueError, match="one text"):
        bootstrap_ratio(np.array([0.5]), np.array([1.0]))


def test_a_ratio_of_equally_long_texts_is_a_mean():
    values = np.random.default_rng(7).normal(3.0, 1.0, 30)
    ratio = bootstrap_ratio(4.0 * values, np.full(30, 4.0), seed=8)
    assert ratio == pytest.approx(bootstrap_mean(values, seed=8), abs=1e-12)


def test_a_ratio_of_sums_covers_the_truth_where_the_mean_of_ratios_does_not():
    """Long texts cost fewer bits a byte here: together 1.2, a text on average 1.3."""
    rng = np.random.default_rng(9)
    ratio = mean = 0
    for i in range(400):
        under = rng.choice([1.0, 3.0], 120)
        over = under * rng.normal(np.where(under == 1.0, 1.5, 1.1), 0.1)
        low, high = bootstrap_ratio(over, under, resamples=500, seed=i)
        ratio += low <= (1.5 + 3.3) / 4 <= high
        low, high = bootstrap_mean(over / under, resamples=500, seed=i)
        mean += low <= (1.5 + 3.3) / 4 <= high
    assert 0.92 <= ratio / 400 <= 0.98
    assert mean / 400 < 0.1


def test_blocks_hold_every_row_and_bound_memory():
    assert list(blocks(10, 100)) == [10]
    many = list(blocks(10_000, 30_000))
    assert sum(many) == 10_000
    assert max(many) * 30_000 <= intervals._DRAWS_AT_ONCE
    assert sum(blocks(5, 10**9)) == 5
