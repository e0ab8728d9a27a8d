"""Summaries and comparisons: which interval, which test, and what is left out."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from tutelage.errors import FailedSamplesError
from tutelage.evaluation import compare, is_binary, summarise, summarise_ratio
from tutelage.evaluation.intervals import bootstrap_mean, bootstrap_ratio, paired_share_difference, wilson
from tutelage.evaluation.paired import mcnemar, sign_flip


def answers(right: int, wrong: int) -> dict[str, list[float | None]]:
    return {f"q{i}": [float(i < right)] for i in range(right + wrong)}


def test_right_or_wrong_is_a_share_with_wilsons_interval():
    summary = summarise(answers(96, 104))
    assert (summary.mean, summary.n, summary.failed) == (0.48, 200, 0)
    assert (summary.low, summary.high) == wilson(96, 200)
    assert json.loads(json.dumps(asdict(summary)))["n"] == 200


def test_failures_are_left_out_and_counted_never_wrong():
    summary = summarise({**answers(3, 1), "x": [None], "y": [1.0, None]})
    assert (summary.mean, summary.n, summary.failed) == (0.8, 5, 2)
    assert (summary.low, summary.high) == wilson(4, 5)


def test_several_samples_resample_questions():
    four: list[list[float | None]] = [[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
    scores = {f"q{i}": given for i, given in enumerate(four * 5)}
    summary = summarise(scores, seed=3)
    assert summary.mean == 0.5
    assert (summary.low, summary.high) == bootstrap_mean(np.array([0.5, 0.0, 1.0, 0.5] * 5), seed=3)


def test_the_interval_of_a_share_stays_between_none_and_all():
    one_of_many: dict[str, list[float | None]] = {f"q{i}": [float(i == 0), 0.0] for i in range(200)}
    rare = summarise(one_of_many)
    assert rare.mean == 0.0025
    assert rare.low == 0.0 < rare.mean < rare.high
    common = summarise({name: [1.0 - (score or 0.0) for score in given] for name, given in one_of_many.items()})
    assert common.high == 1.0 > common.mean > common.low
    points = summarise({name: [10.0 * (score or 0.0) for score in given] for name, given in one_of_many.items()})
    assert points.low < 0.0  # of anything else nothing is known that would bound it
    estimates: dict[str, list[float | None]] = {f"q{i}": [0.4 * (i == 0)] for i in range(200)}  # pass@k of five samples
    assert summarise(estimates).low < 0.0 == summarise(estimates, share=True).low


def test_a_question_weighs_the_same_however_often_it_was_sampled():
    assert summarise({"a": [1.0] * 9, "b": [0.0]}).mean == 0.5


def test_all_right_is_not_certainty():
    summary = summarise({f"q{i}": [1.0] * 8 for i in range(20)})
    assert (summary.low, summary.high) == wilson(20, 20)
    assert summary.low is not None
    assert summary.low < 0.9


def test_one_question_with_a_fraction_has_no_interval():
    summary = summarise({"a": [0.5]})
    assert (summary.mean, summary.low, summary.high) == (0.5, None, None)
    change = compare({"a": [0.5]}, {"a": [0.7]})
    assert (change.low, change.high, change.p_value) == (None, None, 1.0)


def test_nothing_scored_is_refused():
    with pytest.raises(FailedSamplesError, match="none of the evaluation's 2 samples"):
        summarise({"a": [None], "b": [None]})


def test_a_non_finite_score_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        summarise({"a": [float("nan")], "b": [1.0]})


def test_binary():
    assert is_binary({"a": [1.0, None], "b": [0.0]})
    assert not is_binary({"a": [1.0], "b": [0.5]})


def test_comparison_of_right_or_wrong_is_mcnemar():
    before = {f"q{i}": [float(i < 40)] for i in range(100)}
    after = {f"q{i}": [float(i < 85 and i != 3)] for i in range(100)}
    change = compare(before, after)
    assert change.test == "McNemar"
    assert change.difference == pytest.approx(0.44)
    assert change.p_value == mcnemar(45, 1)
    assert (change.low, change.high) == paired_share_difference(45, 1, 100)
    back = compare(after, before)
    assert back.difference == pytest.approx(-0.44)
    assert back.p_value == change.p_value


def test_only_questions_scored_in_both_count_whatever_their_order():
    before = {"a": [0.0], "b": [1.0], "c": [None], "d": [0.0]}
    after = {"e": [1.0], "d": [1.0], "c": [1.0], "a": [1.0], "b": [None]}
    change = compare(before, after)
    assert (change.n, change.difference) == (2, 1.0)
    with pytest.raises(ValueError, match="in common"):
        compare({"a": [1.0]}, {"b": [1.0]})


def test_comparison_of_anything_else_flips_signs_of_question_means():
    before = {"a": [0.0, 1.0], "b": [0.25], "c": [0.5]}
    after = {"a": [1.0, 1.0], "b": [0.5], "c": [0.25]}
    change = compare(before, after, seed=2)
    differences = np.array([0.5, 0.25, -0.25])
    assert change.test == "paired permutation test"
    assert change.difference == pytest.approx(1 / 6)
    assert change.p_value == sign_flip(differences, seed=2)
    assert (change.low, change.high) == bootstrap_mean(differences, seed=2)


def test_a_ratio_is_of_all_texts_together():
    bits, size = np.array([10.0, 30.0, 8.0]), np.array([5.0, 20.0, 3.0])
    summary = summarise_ratio(bits, size)
    assert summary.mean == pytest.approx(48 / 28)
    assert (summary.low, summary.high) == bootstrap_ratio(bits, size)
    assert summary.numbers["n"] == 3
    alone = summarise_ratio(bits[:1], size[:1])
    assert (alone.mean, alone.low, alone.high) == (2.0, None, None)
    with pytest.raises(ValueError, match="a ratio needs texts"):
        summarise_ratio(bits, np.array([5.0, 0.0, 3.0]))
