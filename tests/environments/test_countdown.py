"""The countdown game: what is asked can be solved, and only a right expression of just those numbers scores."""

from __future__ import annotations

import pytest

from tutelage.environments import build_environment, gold_failures, overlap
from tutelage.errors import ConfigError
from tutelage.types import Prompt, Sample

TABLE = {"type": "countdown", "train_questions": 400, "test_questions": 100}


def answer(text: str) -> Sample:
    return Sample("countdown", 0, [1], [0.0], text, "stop", 0)


def test_its_own_answers_are_right_and_its_splits_share_nothing():
    environment = build_environment(TABLE, "environments.game")
    assert len(environment.prompts("train")) == 400
    assert len(environment.prompts("test")) == 100
    assert gold_failures(environment, "test") == []
    assert gold_failures(environment, "train", 50) == []
    assert overlap(environment) == []
    more = build_environment({**TABLE, "train_questions": 500}, "environments.game")
    assert more.prompts("test") == environment.prompts("test")
    other = build_environment({**TABLE, "seed": 1}, "environments.game")
    assert other.prompts("test") != environment.prompts("test")


def test_the_wording_is_the_recipes():
    environment = build_environment({**TABLE, "question": "{numbers} -> {target}"}, "environments.game")
    prompt = environment.prompts("train")[0]
    asked = ", ".join(map(str, prompt.meta["numbers"]))
    assert prompt.messages is not None
    assert prompt.messages[0].content == f"{asked} -> {prompt.meta['target']}"
    with pytest.raises(ConfigError, match=r"must hold \{numbers\}"):
        build_environment({**TABLE, "question": "{target}?"}, "environments.game")
    with pytest.raises(ConfigError, match=r"environments.game: train_questions = 9000, but .* widen"):
        build_environment({**TABLE, "maximum": 5, "train_questions": 9000}, "environments.game")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("(3 + 5) * 9", 1.0),
        ("9*(5+3)", 1.0),
        ("3 + 5 = 8, 8 + 9 = 17\n3 + 5 = 8, 8 * 9 = 72\n9 * (3 + 5)\n", 1.0),
        ("3 + 5 = 8, 8 * 9 = 72", 0.0),  # no expression
        ("(3 + 5) * 9\nThat is it.", 0.0),  # not the last line
        ("72", 0.0),  # not of the numbers
        ("9 * 8", 0.0),
        ("(3 + 5) * 9 * 1", 0.0),  # a number more
        ("(5 - -3) * 9", 0.0),  # minus three is another number
        ("-(3 + 5) * (-9)", 0.0),
        ("9 * ((3 + 5)", 0.0),
        ("(3 + 5) + 9", 0.0),  # comes to 17
        ("35 * 9", 0.0),
        ("(3 + 5) * 9" + " " * 100 + "+" * 100, 0.0),
        ("__import__('os').abort()", 0.0),
        ("(3 + 5) ** 9", 0.0),
        ("", 0.0),
    ],
)
def test_scores_by_hand(text, score):
    scorer = build_environment(TABLE, "environments.game").scorer()
    prompt = Prompt("countdown:3,5,9:72", text="?", answer="(3 + 5) * 9", meta={"numbers": [3, 5, 9], "target": 72})
    assert scorer.score(prompt, answer(text)) == score


def test_a_prompt_of_another_environment_is_no_wrong_answer():
    scorer = build_environment(TABLE, "environments.game").scorer()
    with pytest.raises(ValueError, match="comes from no countdown environment"):
        scorer.score(Prompt("x", text="?"), answer("1"))
