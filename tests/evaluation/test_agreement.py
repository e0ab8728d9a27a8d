"""Agreement with judgements: the order of pairs, and how far length decides it."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.evaluation.agreement import Compared, report

ANSWERS = [
    Compared([2.0, 0.5, 1.0], [3.0, 1.0, 1.0], [10, 4, 12]),
    Compared([0.0, 1.5], [1.0, 0.0], [5, 9]),
    Compared([0.3, 0.3], [0.0, 1.0], [7, 7]),
]
# Of the answers judged apart: the better one's lead in score, in judgement, in tokens.
PAIRS = [(1.5, 2.0, 6), (1.0, 2.0, -2), (-1.5, 1.0, -4), (0.0, 1.0, 0)]


def test_correlations_are_numpys_over_both_orders_of_each_pair() -> None:
    found = report(ANSWERS)["length"]
    both = np.array([*PAIRS, *(tuple(-x for x in pair) for pair in PAIRS)], dtype=float)
    expected = np.corrcoef(both.T)
    assert found["scores"] == pytest.approx(expected[0, 2])
    assert found["judged"] == pytest.approx(expected[1, 2])


def test_accuracy_is_told_where_the_better_answer_is_longer_and_where_it_is_shorter() -> None:
    found = report(ANSWERS)
    assert (found["pairs"], found["accuracy"]["mean"]) == (4, pytest.approx((1.0 + 0.0 + 0.5) / 3))
    longer, shorter = found["length"]["longer_is_better"], found["length"]["shorter_is_better"]
    assert (longer["pairs"], longer["mean"]) == (1, 1.0)
    assert (shorter["pairs"], shorter["mean"]) == (2, 0.5)  # one prompt right, one wrong


def test_the_order_of_the_answers_changes_nothing() -> None:
    turned = [Compared(one.scores[::-1], one.judged[::-1], one.lengths[::-1]) for one in ANSWERS]
    found, again = report(ANSWERS)["length"], report(turned)["length"]
    assert again["scores"] == pytest.approx(found["scores"])
    assert again["judged"] == pytest.approx(found["judged"])
    assert again["shorter_is_better"] == found["shorter_is_better"]


@pytest.mark.parametrize(("sign", "correlation"), [(1, 1.0), (-1, -1.0)])
def test_scores_that_are_lengths_are_found_out(sign: int, correlation: float) -> None:
    lengths = [[3, 9, 5], [2, 8, 4]]
    found = report([Compared([sign * n for n in own], [1.0, 0.0, 2.0], own) for own in lengths])["length"]
    assert found["scores"] == pytest.approx(correlation)
    assert abs(found["judged"]) < 0.9
    assert found["longer_is_better"]["mean"] == (sign + 1) / 2
    assert found["shorter_is_better"]["mean"] == (1 - sign) / 2


def test_answers_of_one_length_tell_nothing_of_it() -> None:
    found = report([Compared([1.0, 0.0], [1.0, 0.0], [4, 4])])["length"]
    assert found == {
        "scores": None,
        "judged": None,
        "longer_is_better": {"pairs": 0},
        "shorter_is_better": {"pairs": 0},
    }
