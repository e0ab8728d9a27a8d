"""The reward `numeric`: which number of an answer counts, exactly."""

import pytest

from tests.rewards.made import prompt, sample
from tutelage.rewards import NumericReward


def score(text, answer="42", **options):
    return NumericReward(**options).score(prompt(answer), sample(text))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("42", "42"),
        (" 42.\n", "42"),
        ("40 + 2 = 42", "42"),
        ("The answer is **42**.", "42"),
        ("42.0", "42"),
        ("-7", "-7"),
        ("5 - 12 = -7", "-7"),
        ("= −7", "-7"),  # a typographic minus
        ("12-7", "7"),  # a dash between numbers is no sign
        ("-$7", "-7"),
        ("1,234,567", "1234567"),
        ("1, 2", "2"),
        ("3.140", "3.14"),
        (".5", "0.5"),
        ("6.02e23", "602000000000000000000000"),
        ("$72", "48/2 = <<48/2=24>>24 so 48+24 = 72\n#### 72"),
        ("9" * 6000, "9" * 6000),  # longer than Python converts to an int
        ("0", "-0"),
        ("7 apples", "7"),
    ],
)
def test_right(text, answer):
    assert score(text, answer) == 1.0


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", "42"),
        ("forty-two", "42"),
        ("42 or 43", "42"),
        ("41", "42"),
        ("-42", "42"),
        ("4.2", "42"),
        ("420", "42"),
        ("1e999999999999", "42"),
        ("9" * 6000 + "1", "9" * 6001),  # equal to 28 digits, as Decimal rounds, but not equal
        ("٤٢", "42"),
    ],
)
def test_wrong(text, answer):
    assert score(text, answer) == 0.0


def test_strict_wants_the_number_alone():
    assert [score(t, strict=True) for t in ("42", " 42.\n", "42.0", "= 42", "The answer is 42", "42 42")] == [
        1, 1, 1, 0, 0, 0,
    ]  # fmt: skip


def test_tolerance():
    assert [score(t, tolerance=0.5) for t in ("42.5", "41.5", "42.6", "1e9999")] == [1, 1, 0, 0]


def test_only_the_last_tag_counts():
    text = "41 <answer>40</answer> then <answer> 42 </answer> 43"
    assert score(text, tag="answer") == 1.0
    assert score("42", tag="answer") == 0.0
    assert score("<answer>42", tag="answer") == 0.0


@pytest.mark.parametrize("answer", [None, "forty-two"])
def test_a_gold_answer_without_a_number_is_an_error_not_a_zero(answer):
    with pytest.raises(ValueError, match="gold answer"):
        score("42", answer)
