"""What a judge is asked and what its answers come to, whoever it is: orders, ties, probabilities, faults."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.rewards.base import Fault, Outcome
from tutelage.rewards.judging import Grades, Pairs
from tutelage.rewards.verdict import compared
from tutelage.types import Prompt

PROMPT = Prompt("p", text="Name a prime.")
SHARES, VERDICTS = Pairs(None, unanimous=False), Pairs(None, unanimous=True)
probability = st.floats(0.0, 1.0)


def both(forward: Outcome, backward: Outcome) -> dict[str, Outcome]:
    """What is said of x as A and y as B, and of y as A and x as B."""
    return {compared(PROMPT, "x", "y", None): forward, compared(PROMPT, "y", "x", None): backward}


@given(probability, probability)
def test_shares_are_the_mean_of_both_orders_and_add_up_to_one_exactly(forward: float, backward: float) -> None:
    said = both(forward, backward)
    first, second = SHARES.scores(PROMPT, ["x", "y"], said)
    swapped, _ = SHARES.scores(PROMPT, ["y", "x"], said)
    assert isinstance(first, float)
    assert isinstance(swapped, float)
    assert first + swapped == 1.0
    assert first + second == 1.0  # type: ignore[operator]
    assert first == pytest.approx((forward + (1.0 - backward)) / 2, abs=1e-15)
    assert 0.0 <= first <= 1.0


def test_an_order_that_changes_nothing_is_a_tie() -> None:
    assert SHARES.scores(PROMPT, ["x", "x"], {compared(PROMPT, "x", "x", None): 0.9}) == [0.5, 0.5]
    assert SHARES.questions(PROMPT, ["x", "x"]) == [compared(PROMPT, "x", "x", None)]
    assert SHARES.scores(PROMPT, ["x", "y"], both(0.9, 0.9)) == [0.5, 0.5]


@pytest.mark.parametrize(
    ("forward", "backward", "won"),
    [("A", "B", 1.0), ("B", "A", 0.0), ("A", "A", 0.5), ("B", "B", 0.5), ("A", "C", 0.5), ("C", "A", 0.5),
     ("C", "C", 0.5)],
)  # fmt: skip
def test_a_verdict_counts_where_both_orders_agree(forward: str, backward: str, won: float) -> None:
    said = both(VERDICTS.read(f"Hm. [[{forward}]]"), VERDICTS.read(f"[[A]]? No: [[{backward}]]"))
    assert VERDICTS.scores(PROMPT, ["x", "y"], said) == [won, 1.0 - won]


def test_each_is_compared_with_the_next_one_and_each_question_is_asked_once() -> None:
    texts = ["x", "y", "z", "Solution"]
    questions = SHARES.questions(PROMPT, texts)
    pairs = [("x", "y"), ("y", "x"), ("y", "z"), ("z", "y")]
    assert questions == [compared(PROMPT, *pair, None) for pair in pairs]
    said = dict(zip(questions, (1.0, 0.0, 0.75, 0.25), strict=True))
    # x beats y and the master key; y wins 3/4 of z; z beats the master key.
    assert SHARES.scores(PROMPT, texts, said) == [1.0, 0.375, 0.625, 0.0]


def test_a_fault_costs_one_comparison_and_both_are_a_fault() -> None:
    fault = Fault("silence")
    said = {**both(1.0, 0.0), **dict.fromkeys(SHARES.questions(PROMPT, ["y", "z"]), fault)}
    said |= dict.fromkeys(SHARES.questions(PROMPT, ["z", "x"]), fault)
    assert SHARES.scores(PROMPT, ["x", "y", "z"], said) == [1.0, 0.0, fault]
    assert SHARES.scores(PROMPT, ["x", "y"], both(fault, 1.0)) == [fault, fault]


def test_nobody_is_compared_with_himself() -> None:
    assert SHARES.questions(PROMPT, ["x"]) == []
    (alone,) = SHARES.scores(PROMPT, ["x"], {})
    assert isinstance(alone, Fault)
    assert "comparing takes two answers to a prompt" in alone.reason


def test_grades_are_shares_of_the_scale() -> None:
    grades = Grades("primes", (2, 6))
    assert grades.choices == {"2": 0.0, "3": 0.25, "4": 0.5, "5": 0.75, "6": 1.0}
    assert grades.read("[[2]]? rather [[ 5 ]]") == 0.75
    assert grades.read("[[7]]") == Fault("the judge gave no grade from 2 to 6: '[[7]]'")
    questions = grades.questions(PROMPT, ["7", "", "Thought process:", "7", "9"])
    assert len(questions) == 2
    said: dict[str, Outcome] = dict(zip(questions, (0.75, Fault("silence")), strict=True))
    assert grades.scores(PROMPT, ["7", "", "7", "9", ":"], said) == [0.75, 0.0, 0.75, Fault("silence"), 0.0]
