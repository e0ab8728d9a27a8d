"""The reward `maths`: true equivalences hold, adversaries gain nothing and take no time (RELIABILITY, case 37)."""

import time
from dataclasses import replace
from importlib.util import find_spec

import pytest

from tests.rewards.made import group, prompt, sample, scored
from tutelage.errors import MissingExtraError
from tutelage.rewards import MathsReward, MixedReward, NumericReward, build_reward, gold
from tutelage.rewards.latex import last_box, refusal

pytest.importorskip("math_verify")


@pytest.fixture(scope="module")
def maths():
    reward = MathsReward()
    reward.prepare()
    return reward


def boxed(expression):
    return rf"So \boxed{{{expression}}}."


EQUAL = [
    ("42", "42"),
    ("42", "42.0"),
    ("42", "x = 42"),
    ("42", r"42\text{ apples}"),
    ("42", r"\frac{84}{2}"),
    ("10,000", "10000"),
    (r"\frac{1}{2}", "0.5"),
    (r"\frac12", "1/2"),
    (r"\dfrac{3}{4}", r"\tfrac{3}{4}"),
    (r"-\frac{1}{2}", r"\frac{-1}{2}"),
    (r"1\frac{1}{2}", r"\frac{3}{2}"),
    (r"\sqrt{8}", r"2\sqrt{2}"),
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt 2}"),
    ("x^2+2x+1", "(x+1)^2"),
    ("2x+3", "y = 2x+3"),
    ("y = 2x+3", "3+2x"),
    ("y = 2x+3", "y = 3+2x"),
    ("x=1, x=2", "1, 2"),
    ("1, 2", "x=2, x=1"),
    (r"\{1,2\}", r"\{2,1\}"),
    ("(1,2)", r"\left(1, 2\right)"),
    (r"[0,\infty)", r"[0,+\infty)"),
    (r"(-\infty,2)\cup(3,\infty)", r"(3,\infty)\cup(-\infty,2)"),
    ("x>3", "x > 3"),
    ("3+4i", "4i+3"),
    (r"90^\circ", "90"),
    (r"\pi/4", r"\frac{\pi}{4}"),
    ("e^{-x^2}", r"\exp(-x^2)"),
    (r"\log_2 8", "3"),
    ("2^{10}", "1024"),
    ("120", "5!"),
    (r"50\%", "0.5"),
    (r"\$12.50", "12.50"),
    (r"\text{east}", r"\text{East}"),
    (r"\text{(A)}", "A"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    ("$42$", "42"),
    (r"Long working, so \boxed{42}.", "42"),
]


@pytest.mark.parametrize(
    ("gold", "answer"), [*EQUAL, *((one, answer) for one, _, equal in gold.EQUAL for answer in equal)]
)
def test_true_equivalences(maths, gold, answer):
    assert maths.score(prompt(gold), sample(boxed(answer))) == 1.0


DIFFERENT = [
    ("42", "41"),
    ("42", "-42"),
    ("42", "42.1"),
    ("42", "42x"),
    ("42", ""),
    (r"\frac{1}{3}", "0.33"),
    ("(1,2)", "(2,1)"),
    ("[0,1]", "(0,1)"),
    ("x>3", "x<3"),
    ("x+1", "x-1"),
    (r"\text{east}", r"\text{west}"),
]

# What should gain a policy nothing although 42 stands in it. math-verify 0.9 by itself takes in the marked ones.
HEDGES = [
    "41=42",  # taken in
    r"41\equiv 42",  # taken in
    "42=41",
    "x=42=41",
    r"41\approx 42",
    r"41\to 42",
    r"41 \Rightarrow 42",
    r"41 \neq 42",
    "41<42",
    "42 41 40 39",
    "42,41",
    "42;41",
    r"42\text{ or }41",
    r"\{42,41\}",
    r"\pm 42",
    r"42\\41",
    r"\boxed{41}42",
    "42$, $41",
    r"41\text{ is not the answer, }42",
    r"\frac{41}{1}=42",  # taken in
    "x+41=42",  # taken in
    r"\sqrt{41}=42",
]


@pytest.mark.parametrize(("gold", "wrong"), [(one, wrong) for one, wrong, _ in gold.EQUAL])
def test_wrong_answers_of_the_same_kind(maths, gold, wrong):
    assert maths.score(prompt(gold), sample(boxed(wrong))) == 0.0


@pytest.mark.parametrize(("gold", "answer"), [*DIFFERENT, *(("42", hedge) for hedge in HEDGES)])
def test_what_is_not_equal_is_worth_nothing(maths, gold, answer):
    assert maths.score(prompt(gold), sample(boxed(answer))) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "42",
        "42 41 40 39",
        "$42$ is not the answer, $43$ is",
        r"\boxed{42} no, \boxed{41}",
        r"\boxed{42",
        r"\boxed 42",
        r"\boxed{42} and then \boxed{4",
        r"\boxed{}",
        "",
    ],
)
@pytest.mark.parametrize("unboxed", ["wrong", "whole"])
def test_only_the_last_box_counts(text, unboxed):
    wanted = 1.0 if (text, unboxed) == ("42", "whole") else 0.0
    assert MathsReward(unboxed=unboxed).score(prompt(), sample(text)) == wanted


def test_without_a_box_the_whole_may_be_read():
    reward = MathsReward(unboxed="whole")
    assert reward.score(prompt(r"\frac12"), sample("$0.5$")) == 1.0
    assert reward.score(prompt(), sample("The answer is 42")) == 0.0


BURNERS = {
    "tower": "9^{9^{9^9}}",
    "small tower": "9^{9^9}",
    "unbraced tower": "9^9^9",
    "tower with a name in it": "9^{9^{9}x/x}",
    "tower of e": "e^{e^{e^{9}}}",
    "tower of brackets": "((9^{99})^{99})^{99}",
    "stars": "9**9**9",
    "high power": "9^{999999999}",
    "very high power": "9^{" + "9" * 100 + "}",
    "power of a sum": "(x+1)^{100000}",
    "power of a long sum": "(x+y+z+w)^{60}",
    "sums multiplied": "(a+b)(c+d)(f+g)(h+j)(k+l)(m+n)(p+q)(r+s)(t+u)(v+w)",
    "factorial": "999999999!",
    "factorials": "5!!!!",
    "factorial of a factorial": "(100!)!",
    "binomial": r"\binom{1000000}{500000}",
    "sum": r"\sum_{i=1}^{1000000} \frac{1}{i}",
    "integral": r"\int_0^1 e^{-x^2} \sin(x^3) dx",
    "parentheses": "(" * 100 + "42" + ")" * 100,
    "braces": "{" * 40 + "42" + "}" * 40,
    "fractions": r"\frac{1}{1+" * 30 + "42" + "}" * 30,
    "roots": r"\sqrt{1+" * 60 + "42" + "}" * 60,
    "unclosed": "{" * 400,
    "long sum": "+".join(["1"] * 5000),
    "many digits": "9" * 100_000,
}


@pytest.mark.parametrize("name", BURNERS)
def test_burners_are_refused_at_once(maths, name):
    begun = time.perf_counter()
    assert maths.score(prompt(), sample(boxed(BURNERS[name]))) == 0.0
    assert time.perf_counter() - begun < 1.0


def test_what_burns_all_the_same_is_killed_after_a_second_whatever_the_stage_allows():
    gold = "(x+y+z+w)^{60}"  # the gold answer is trusted, and passes no guards
    burns, right = scored({"type": "maths"}, [group(boxed("41"), boxed(gold), answer=gold)], timeout=60.0)
    assert burns.reward is None
    assert burns.failure == "maths: timed out after 1 s"
    assert right.reward == 1.0


def test_who_reads_answers_so_allows_no_more_time():
    assert build_reward({"type": "majority", "by": "maths"}, "r").time_limit(prompt()) == 1.0
    scorers = {"sums": MathsReward(timeout=3.0), "words": NumericReward()}
    mixed = MixedReward(scorers=scorers)
    assert [mixed.time_limit(replace(prompt(), part=part)) for part in scorers] == [3.0, None]


@pytest.mark.parametrize(
    "answer",
    ["e^{-x^2}", "x^{10}+x^{9}+x^{8}+x^7", "2^{2024}", "(1+i)^{10}", r"x^{2^n}", "100!", "(x-1)^2(x+2)^3(y-4)^2",
     "(x+y)^{100}", "(x+y+z)^{10}", "".join(f"(x+{n})" for n in range(1, 20)), r"\theta = 2", "f(2) = 5", "a+b = 7",
     r"\frac{dy}{dx} = 2x", "x^2+y^2 = 25", r"\alpha_1 = 3", r"f^{-1}(x) = x"],
)  # fmt: skip
def test_the_guards_let_honest_answers_pass(answer):
    assert refusal(answer, "42") is None


def test_equations_are_welcome_where_the_gold_is_one():
    assert refusal("2x - y = 3", "y = 2x - 3") is None
    assert refusal("41 = 42", "42") is not None
    assert refusal("y = 2 = 3", "y = 2") is not None


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (r"\boxed{a{b}c}", "a{b}c"),
        (r"\boxed{\{1\}}", r"\{1\}"),
        (r"\boxed{1} \boxed{2}", "2"),
        (r"\boxed{\boxed{2}}", "2"),
        (r"\fbox{1}", None),
        (r"\boxed{1", None),
        ("1", None),
    ],
)
def test_last_box(text, inside):
    assert last_box(text) == inside


def test_an_unreadable_gold_answer_is_a_failure_not_a_zero(maths):
    with pytest.raises(ValueError, match="cannot be read"):
        maths.score(prompt(r"0.\overline{3}"), sample(boxed("1/3")))
    assert maths.score(prompt(r"0.\overline{3}"), sample(boxed(r"0.\overline{3}"))) == 1.0


def test_the_demonstration_is_boxed_and_tagged():
    assert MathsReward().demonstrate("$42$") == r"\boxed{42}"
    assert MathsReward(tag="answer").demonstrate(r"\boxed{42}") == r"<answer>\boxed{42}</answer>"


def test_without_math_verify_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("tutelage.rewards.maths.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"rewards\[0\].*pip install 'tutelage\[maths\]'"):
        build_reward({"type": "maths"}, "rewards[0]")
    assert find_spec("math_verify")
