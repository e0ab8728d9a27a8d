"""Answers of anything: each gets a finite score, or fails in words that say why; none takes long."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.judged import judged
from tutelage.rewards import Reward, build_reward
from tutelage.rewards.adversaries import INJECTIONS, LATEX_BURNERS, SAYS_NOTHING
from tutelage.rewards.base import Fault, outcomes
from tutelage.rewards.fence import fenced
from tutelage.rewards.judging import Grades, Pairs, says_nothing
from tutelage.rewards.latex import boxed, last_box, refusal
from tutelage.rewards.numeric import last_number, whole_number
from tutelage.rewards.verdict import compared, grade_of, graded, verdict_of
from tutelage.types import Message, Prompt, Sample

PIECES = [
    "42", "41", "-7", "1,234", "0.5", "1e9", "1e9999", ".", ",", "-", "−", "+", "=", "$", "%", " ", "\n", "(", ")", "{",
    "}", "[", "]", "^", "_", "!", r"\boxed{", r"\frac{1}{2}", r"\frac", r"\sqrt{", r"\left(", r"\right)", r"\text{",
    r"\times", r"\pi", r"\infty", r"\begin{pmatrix}", r"\end{pmatrix}", r"\\", "&", r"\sum", "x", "y", "<think>",
    "</think>", "<answer>", "</answer>", "[[A]]", "[[10]]", "[[", "the", "Solution", "解", "４２", "\u202e", "\u200b",
    "\u2028", "\x00", "\ud800", "e\u0301", "🙂", "²", "½", "٤", "Ⅷ", "aaaaaaaaaaaaaaaaaaaaaaaa",
    *SAYS_NOTHING.values(), *INJECTIONS.values(),
]  # fmt: skip
answers = (
    st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=14).map("".join)
    | st.tuples(st.sampled_from(PIECES), st.integers(1, 3000)).map(lambda run: run[0] * run[1])
    | st.text(max_size=60)
)
latex = st.lists(st.sampled_from(PIECES[:45]), max_size=10).map("".join) | st.sampled_from(
    sorted(LATEX_BURNERS.values())
)

CHECKERS = [
    {"type": "numeric"},
    {"type": "numeric", "strict": True, "tag": "answer"},
    {"type": "numeric", "tolerance": 0.01},
    {"type": "exact"},
    {"type": "exact", "ignore_case": False, "ignore_punctuation": False, "tag": "answer"},
    {"type": "format"},
    {"type": "length", "maximum": 3},
    {"type": "language", "language": "en"},
    {"type": "language", "language": "ja", "reads": "whole"},
    {"type": "regex", "pattern": r"(\w+\s?)*!", "timeout": 0.2},
    {"type": "prediction"},
    {"type": "majority"},
    {"type": "majority", "by": {"type": "exact", "tag": "answer"}},
]
PROMPT = Prompt("p", (Message("user", "?"),), answer="42", meta={"ends": [1, 2]})


def made(table: dict[str, object]) -> Reward:
    return build_reward(table, "r")


@pytest.mark.parametrize("table", CHECKERS, ids=lambda table: " ".join(map(str, table.values())))
@given(texts=st.lists(answers, min_size=1, max_size=3))
@example(texts=["", "9" * 5000, "1e-9999"])
def test_any_answer_has_a_finite_score(table: dict[str, object], texts: list[str]) -> None:
    reward = made(table)
    samples = [Sample("p", i, [1], [0.0], text, "stop", 0) for i, text in enumerate(texts)]
    scores = judged(str(table["type"]), lambda: outcomes(reward, PROMPT, samples)) or []
    assert len(scores) == len(texts)
    for score in scores:
        if isinstance(score, Fault):  # only a pattern that runs wild
            assert table["type"] == "regex", score
            assert "Timeout" in score.reason
        else:
            assert isinstance(score, float)
            assert 0.0 <= score <= 1.0


@given(answers | latex, answers | latex | st.just("42"))
def test_the_guards_of_mathematics_read_anything(answer: str, gold: str) -> None:
    judged("refusal", lambda: refusal(answer, gold))
    inside = judged("last_box", lambda: last_box(rf"{answer}\boxed{{{gold}}}"))
    assert inside is None or boxed(rf"\boxed{{{inside}}}") is not None


@given(latex.filter(lambda text: refusal(text, "42") is None))
def test_what_passes_the_guards_is_judged_at_once(answer: str) -> None:
    pytest.importorskip("math_verify")
    sample = Sample("p", 0, [1], [0.0], rf"\boxed{{{answer}}}", "stop", 0)
    (score,) = judged("maths", lambda: outcomes(made({"type": "maths"}), PROMPT, [sample])) or [0.0]
    assert isinstance(score, Fault) or score in (0.0, 1.0)


@given(answers)
def test_numbers_are_read_out_of_anything(text: str) -> None:
    last, whole = judged("last_number", lambda: last_number(text)), judged("whole_number", lambda: whole_number(text))
    assert whole is None or whole == last
    assert last is None or not last.is_nan()


@given(answers, answers, st.booleans())
def test_judges_are_asked_and_read_whatever_is_said(first: str, said: str, plain: bool) -> None:
    prompt = Prompt("p", text=first) if plain else Prompt("p", (Message("user", first),))
    judged("compared", lambda: compared(prompt, first, said, "rubric {first}"))
    judged("graded", lambda: graded(prompt, said, (1, 10), None))
    assert judged("verdict_of", lambda: verdict_of(said)) in ("A", "B", "C", None)
    grade = judged("grade_of", lambda: grade_of(said, (1, 10)))
    assert grade is None or 1 <= grade <= 10
    for judging in (Pairs(None, unanimous=True), Grades(None, (1, 10))):
        read = judging.read(said)
        assert isinstance(read, Fault) or (math.isfinite(read) and 0.0 <= read <= 1.0)
    assert judged("fenced", lambda: fenced(fenced(said))) is not None
    assert judged("says_nothing", lambda: says_nothing(said)) in (True, False)
