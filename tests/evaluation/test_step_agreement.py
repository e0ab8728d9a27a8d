"""How far a process reward model agrees with labels of steps, by hand."""

from __future__ import annotations

import pytest

from tutelage.evaluation.calibration import calibration_error
from tutelage.evaluation.intervals import wilson
from tutelage.evaluation.step_agreement import Steps, report

ANSWERS = [
    Steps([0.9, 0.8, 0.1, 0.9], [1.0, 1.0, 0.0, 0.0]),  # the first error is named
    Steps([0.9, 0.2, 0.1], [1.0, 1.0, 0.0]),  # it is named a step too early
    Steps([0.9, 0.9], [1.0, 0.25]),  # it is not seen
    Steps([0.7], [0.625]),  # right, and left alone
    Steps([0.6, 0.4], [1.0, 0.9]),  # right, and found wrong
    Steps([0.99, 0.5], [1.0, 0.5]),  # a half is not right
]


def test_by_hand() -> None:
    found = report(ANSWERS)
    assert (found["answers"], found["steps"]) == (6, 14)
    assert found["accuracy"]["mean"] == pytest.approx((3 / 4 + 2 / 3 + 1 / 2 + 1 + 1 / 2 + 1) / 6)
    first = found["first_error"]
    assert first["found"] == {"mean": 0.5, "low": wilson(2, 4)[0], "high": wilson(2, 4)[1], "n": 4}
    assert (first["clean"]["mean"], first["clean"]["n"]) == (0.5, 2)
    assert first["f1"] == pytest.approx(0.5)


def test_the_harmonic_mean_sees_the_worse_of_both() -> None:
    """Who finds everything wrong locates many a first error, and leaves no right answer alone."""
    blind = [Steps([0.0] * len(one.labels), one.labels) for one in [*ANSWERS, Steps([0.0], [0.0])]]
    first = report(blind)["first_error"]
    assert first["found"]["mean"] == pytest.approx(1 / 5)
    assert (first["clean"]["mean"], first["f1"]) == (0.0, 0.0)
    exact = [Steps(one.labels, one.labels) for one in ANSWERS]
    assert report(exact)["first_error"]["f1"] == pytest.approx(1.0)
    assert report(exact)["calibration_error"] == 0.0


def test_what_there_is_none_of_has_no_number() -> None:
    found = report([Steps([0.9, 0.9], [1.0, 1.0])])
    assert found["first_error"]["found"] is None
    assert found["first_error"]["f1"] is None
    assert found["first_error"]["clean"]["mean"] == 1.0


def test_calibration_is_a_mean_over_claims_of_the_gaps_of_their_bins() -> None:
    claimed, found = [0.12, 0.18, 0.91, 1.0, 0.55], [0.0, 1.0, 1.0, 1.0, 0.5]
    bins = [abs(0.12 + 0.18 - 1.0), abs(0.91 + 1.0 - 2.0), 0.05]
    assert calibration_error(claimed, found) == pytest.approx(sum(bins) / 5)
    assert calibration_error([0.5, 0.549, 0.551], [1.0, 0.0, 0.0], least=0.5) == pytest.approx((0.049 + 0.551) / 3)
