r"""The reward `prediction`: what stands in the last \boxed{} after the thought, compared byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rewards.made import sample, scored
from tutelage.rewards import PredictionReward
from tutelage.types import Group, Prompt

# " the 日本 x": tokens that end after " the", " ", inside 日 (which no text can hit), after 日, after 本, after " x".
ANSWER, ENDS = " the 日本 x", (4, 5, 8, 11, 13)


def score(text: str, answer: str = ANSWER, ends: tuple[int, ...] = ENDS) -> float:
    return PredictionReward().score(Prompt("p", text="?", answer=answer, meta={"ends": ends}), sample(text))


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        (r"\boxed{ the}", 1),
        (r"\boxed{ the }", 1),
        (r"\boxed{ the 日}", 1),
        (r"\boxed{ the 日本}", 1),
        (r"\boxed{ the 日本 x}", 1),
        (r"\boxed{ the 日本 x }", 0),  # more than is known
        (r"\boxed{ th}", 0),  # right so far, but no token ends there
        (r"\boxed{the}", 0),  # the white space is part of it
        (r"\boxed{ the  }", 0),
        (r"\boxed{ The}", 0),
        (r"\boxed{}", 0),
        (r"\boxed{ the", 0),  # never closed
        (" the", 0),
        ("", 0),
        (r"\boxed{no} \boxed{ the}", 1),
        (r"\boxed{ the} \boxed{no}", 0),
        (r"\boxed{ the} \boxed{no", 0),
        (r"<think>\boxed{no}</think>\boxed{ the}", 1),
        (r"<think>\boxed{ the}</think> so it is", 0),  # the thought is not read
        (r"<think>\boxed{ the}</think>\boxed{no}", 0),
        (r"<think>\boxed{ the}", 1),  # it never ended
        (r"a</think>\boxed{ the} b</think>", 1),  # what ends it is the first
    ],
)
def test_predictions_by_hand(text: str, worth: float) -> None:
    assert score(text) == worth


def test_braces_inside_the_box() -> None:
    assert score(r"\boxed{{a}}", "{a}b", (3, 4)) == 1.0
    assert score(r"\boxed{\{}", r"\{1\}", (2, 3, 5)) == 1.0
    assert score(r"\boxed{\{1\}}", r"\{1\}", (2, 3, 5)) == 1.0
    assert score(r"\boxed{{}", "{a}", (1, 3)) == 0.0  # never closed
    assert score(r"\boxed {\frac{1}{2}}", r"\frac{1}{2}", (5, 11)) == 1.0


def literally(text: str, answer: bytes, ends: tuple[int, ...]) -> float:
    """The same, in the words of the paper: some first bytes of the continuation, as many as its first tokens have."""
    if "</think>" in text:
        text = text[text.index("</think>") + len("</think>") :]
    starts = [i for i in range(len(text)) if text[i:].startswith(r"\boxed{")]
    inside, depth, closed = "", 1, False
    rest = text[starts[-1] + len(r"\boxed{") :] if starts else ""
    while rest and not closed:
        taken = rest[:2] if rest[0] == "\\" else rest[0]
        rest = rest[len(taken) :]
        depth += (taken == "{") - (taken == "}")
        closed = depth == 0
        inside += "" if closed else taken
    predicted = inside.encode() if closed else b""
    return float(any(end > 0 and predicted == answer[:end] for end in ends))


BITS = st.lists(
    st.sampled_from([r"\boxed{", "}", "{", "\\", "<think>", "</think>", " the", " ", "日", "本", " x", "t", "\n"]),
    max_size=9,
).map("".join)


@settings(max_examples=400, deadline=None)
@given(BITS, st.sampled_from([ANSWER, "{日}", "\\{\n", " "]), st.sets(st.integers(1, 13)).map(sorted).map(tuple))
def test_it_is_what_the_paper_says(text: str, answer: str, ends: tuple[int, ...]) -> None:
    ends = tuple(end for end in ends if end <= len(answer.encode()))
    assert score(text, answer, ends) == literally(text, answer.encode(), ends)


def test_its_own_demonstration_is_right_and_a_recipe_can_name_it() -> None:
    assert score(PredictionReward().demonstrate(ANSWER)) == 1.0
    asked = Prompt("p", text="?", answer=ANSWER, meta={"ends": ENDS})
    told = scored({"type": "prediction", "think": "thought"}, [Group(asked, (1,), [sample(r"\boxed{ the}</thought>")])])
    assert [one.reward for one in told] == [0.0]


def test_an_answer_without_token_ends_is_a_failure() -> None:
    (told,) = scored({"type": "prediction"}, [Group(Prompt("p", text="?", answer="x"), (1,), [sample("x")])])
    assert told.reward is None
    assert "prompt 'p' does not say where the tokens of its answer end" in (told.failure or "")
