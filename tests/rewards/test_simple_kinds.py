"""The rewards `exact`, `regex`, `format` and `length`."""

import time

import pytest

from tests.rewards.made import group, prompt, sample, scored
from tutelage.errors import ConfigError
from tutelage.rewards import ExactReward, FormatReward, LengthReward, RegexReward, build_reward


@pytest.mark.parametrize(
    ("text", "options", "value"),
    [
        ("Paris", {}, 1),
        ("  paris.\n", {}, 1),
        ('"PARIS"', {}, 1),
        ("ＰＡＲＩＳ", {}, 1),  # full-width letters
        ("Paris, France", {}, 0),
        ("", {}, 0),
        ("...", {}, 0),
        ("paris", {"ignore_case": False}, 0),
        ("Paris.", {"ignore_punctuation": False}, 0),
        ("It is <answer>Paris</answer>.", {"tag": "answer"}, 1),
    ],
)
def test_exact(text, options, value):
    assert ExactReward(**options).score(prompt("Paris"), sample(text)) == value


def test_exact_keeps_punctuation_that_is_all_there_is():
    assert ExactReward().score(prompt("?"), sample("?")) == 1.0
    assert ExactReward().score(prompt("?"), sample("!")) == 0.0


@pytest.mark.parametrize(
    ("gold", "text", "value"),
    [("-5%", "5", 0.0), ("5", "-5", 0.0), ("5", "5%", 0.0), ("-5%", '"-5%".', 1.0), ("-5", "−5", 1.0),
     ("42", "4²", 0.0), ("x2", "x²", 0.0), ("H2O", "H₂O", 0.0), ("H₂O", "h₂o.", 1.0), ("5", ".5", 0.0),
     ("-.5", "-.5!", 1.0), ("-.5", ".5", 0.0), ("Paris", "- Paris", 1.0), ("5", "- 5", 1.0), ("5", "...5", 1.0),
     ("1-2", "1-2", 1.0), ("４２", "42", 1.0)],
)  # fmt: skip
def test_exact_keeps_what_makes_another_number(gold, text, value):
    assert ExactReward().score(prompt(gold), sample(text)) == value


@pytest.mark.parametrize(
    ("text", "options", "value"),
    [
        ("a 42 b", {"pattern": r"\b42\b"}, 1),
        ("a 42 b", {"pattern": r"\b42\b", "whole": True}, 0),
        ("42", {"pattern": r"\d+", "whole": True}, 1),
        ("YES", {"pattern": "yes"}, 0),
        ("YES", {"pattern": "yes", "ignore_case": True}, 1),
        ("a\nb", {"pattern": "a.b"}, 1),
    ],
)
def test_regex(text, options, value):
    assert RegexReward(**options).score(prompt(), sample(text)) == value


def test_a_regex_that_takes_too_long_is_a_failure():
    begun = time.perf_counter()
    right, hung = scored(
        {"type": "regex", "pattern": r"(?:a|a)*b|c", "timeout": 0.1, "whole": True}, [group("c", "a" * 40)]
    )
    assert right.reward == 1.0
    assert hung.reward is None
    assert "TimeoutError" in hung.failure
    assert time.perf_counter() - begun < 5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<think>a</think><answer>b</answer>", 1),
        ("\n<think>\na\n</think>\n\n<answer>\nb\n</answer>\n", 1),
        ("<think>a < b > c</think><answer>b</answer>", 1),
        ("a<think>a</think><answer>b</answer>", 0),
        ("<think>a</think>and<answer>b</answer>", 0),
        ("<think>a</think><answer>b</answer> more", 0),
        ("<think> </think><answer>b</answer>", 0),
        ("<think>a</think><answer></answer>", 0),
        ("<answer>b</answer><think>a</think>", 0),
        ("<think>a</think><think>a</think><answer>b</answer>", 0),
        ("<think>a<answer>c</answer></think><answer>b</answer>", 0),
        ("<think>a</think><answer>b", 0),
        ("<Think>a</Think><answer>b</answer>", 0),
        ("<think>" * 50_000, 0),
        ("", 0),
    ],
)
def test_format(text, value):
    assert FormatReward().score(prompt(), sample(text)) == value


def test_format_with_other_tags():
    reward = FormatReward(think="reasoning", answer="final")
    assert reward.score(prompt(), sample("<reasoning>a</reasoning><final>b</final>")) == 1.0


@pytest.mark.parametrize(
    ("tokens", "options", "value"),
    [
        (100, {"target": 100}, 1.0),
        (150, {"target": 100}, 0.5),
        (50, {"target": 100}, 0.5),
        (300, {"target": 100}, 0.0),
        (110, {"target": 100, "falloff": 20}, 0.5),
        (0, {"maximum": 100}, 1.0),
        (100, {"maximum": 100}, 1.0),
        (110, {"maximum": 100, "falloff": 40}, 0.75),
        (500, {"maximum": 100}, 0.0),
    ],
)
def test_length(tokens, options, value):
    assert LengthReward(**options).score(prompt(), sample("x", tokens)) == pytest.approx(value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"type": "regex", "pattern": "("}, r"r\.pattern: .*is no regular expression: missing \)"),
        ({"type": "format", "think": "a", "answer": "a"}, "different tags"),
        ({"type": "format", "think": "a>"}, r"r\.think"),
        ({"type": "length"}, "either target or maximum"),
        ({"type": "length", "target": 3, "maximum": 4}, "either target or maximum"),
        ({"type": "numeric", "tolerance": -1}, r"r\.tolerance"),
        ({"type": "numeric", "weight": float("inf")}, r"r\.weight"),
        ({"type": "numeric", "stict": True}, "did you mean 'strict'"),
        ({"type": "numerc"}, "did you mean 'numeric'"),
    ],
)
def test_a_wrong_table_is_refused(table, message):
    with pytest.raises(ConfigError, match=message):
        build_reward(table, "r")
