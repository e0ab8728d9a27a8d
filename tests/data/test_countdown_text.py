"""The countdown game written out: every step is right, the last attempt solves it, none solves a test question."""

from __future__ import annotations

import re

import pytest

from tutelage.data import build_conversation_source, build_judged_source, build_prompt_source
from tutelage.data.countdown import Game, attempt, value_of_way, ways, written
from tutelage.environments import Countdown
from tutelage.errors import ConfigError, DataError

TABLE = {"type": "countdown-text", "train_questions": 800, "test_questions": 150, "seed": 3}
TOLD = "{target} {numbers}:\n{steps}\n{answer}"


def texts(**changes) -> list[str]:
    found = build_conversation_source({**TABLE, "template": TOLD, **changes}, "source").load_conversations()
    assert all(one.prompt == "" for one in found)
    return [one.completion or "" for one in found]


def test_all_ways_of_two_and_three_numbers():
    assert [(attempt(way), written(way)) for way in ways((3, 5))] == [
        ("3 + 5 = 8", "3 + 5"),
        ("5 - 3 = 2", "5 - 3"),
        ("3 * 5 = 15", "3 * 5"),
    ]
    assert {value_of_way(way) for way in ways((1, 2, 4))} == {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12}  # by hand
    assert len(ways((2, 3, 7))) == 27


@pytest.mark.parametrize("numbers", [(2, 3, 7), (4, 4, 8), (1, 2, 3, 6)])
def test_a_way_and_its_expression_have_one_value_and_use_each_number_once(numbers):
    for way in ways(numbers):
        assert eval(written(way)) == value_of_way(way), way
        assert sorted(map(int, re.findall(r"\d+", written(way)))) == sorted(numbers), way


@pytest.mark.parametrize("numbers", [2, 3, 4])
def test_every_step_is_right_and_only_the_last_attempt_solves_it(numbers):
    failures = []
    for text in texts(numbers=numbers, train_questions=60, test_questions=20, maximum=30):
        first, *attempts, answer = text.splitlines()
        target, given = re.fullmatch(r"(\d+) ([\d, ]+):", first).groups()
        for line in attempts:
            steps = [step.split(" = ") for step in line.split(", ")]
            assert len(steps) == numbers - 1
            assert all(eval(left) == int(right) for left, right in steps), text
        ends = [line.rpartition(" = ")[2] for line in attempts]
        assert ends[-1] == target
        assert target not in ends[:-1]
        assert eval(answer) == int(target)
        assert sorted(re.findall(r"\d+", answer)) == sorted(given.split(", "))
        failures.append(len(ends) - 1)
    assert set(failures) == ({0, 1, 2} if numbers == 2 else {0, 1, 2, 3})  # of two numbers three things can be made


def test_a_verdict_follows_each_attempt_and_only_the_last_one_is_yes():
    plain, judged = texts(train_questions=40), texts(train_questions=40, verdicts=True)
    for text, told in zip(plain, judged, strict=True):
        first, *attempts, answer = text.splitlines()
        target = first.partition(" ")[0]
        verdicts = [*[f"; {target}? no"] * (len(attempts) - 1), f"; {target}? yes"]
        assert told.splitlines() == [first, *map("".join, zip(attempts, verdicts, strict=True)), answer]


def test_several_searches_of_a_question_are_other_texts_of_the_same_questions():
    once, thrice = texts(train_questions=40), texts(train_questions=40, searches=3)
    assert thrice[:40] == once
    asked = [text.partition("\n")[0] for text in thrice]
    assert asked == asked[:40] * 3
    assert len(set(thrice)) > 100  # where a question has one way and no failure is drawn, two may be alike


def test_no_attempt_solves_a_question_that_is_asked_for_testing():
    asked = Countdown(**{key: value for key, value in TABLE.items() if key != "type"}).prompts("test")
    held_out = {Game(tuple(prompt.meta["numbers"]), prompt.meta["target"]) for prompt in asked}
    assert len(held_out) == 150
    solved = set()
    for text in texts():
        first, *attempts, _ = text.splitlines()
        numbers = tuple(map(int, first.partition(" ")[2].rstrip(":").split(", ")))
        solved |= {Game(numbers, int(line.rpartition(" = ")[2])) for line in attempts}
    assert len(solved) > 1000
    assert not solved & held_out
    told = {line.partition(" ")[0] for text in texts(split="test") for line in text.splitlines()[:1]}
    assert told == {str(game.target) for game in held_out}


def test_texts_and_conversations_of_the_same_table_are_the_same_each_time():
    alone, together = texts(), texts(per_text=9)
    assert "\n".join(alone) == "\n".join(together)
    assert alone == texts()
    assert alone != texts(seed=4)
    table = {**TABLE, "question": "{target} of {numbers}?", "template": "{steps}\n{answer}"}
    (first, *_) = build_conversation_source(table, "source").load_conversations()
    asked, told = (turn.content for turn in first.messages)
    target, numbers = re.fullmatch(r"(\d+) of ([\d, ]+)\?", asked).groups()
    assert alone[0] == f"{target} {numbers}:\n{told}"


def test_what_cannot_be_is_refused():
    for build in (build_prompt_source, build_judged_source):
        with pytest.raises(ConfigError, match="source: 'countdown-text' tells and does not ask"):
            build(TABLE, "source")
    source = build_conversation_source(TABLE, "source")
    with pytest.raises(DataError, match="no prompts"):
        source.load()
    with pytest.raises(DataError, match="no judged answers"):
        source.load_judged()
    for changes, words in [
        ({"template": "{numbers}"}, "must hold {answer} or {steps}"),
        ({"template": "{answer} {way}"}, "nothing else in braces"),
        ({"question": "{numbers}?"}, "must hold {numbers} and {target}"),
        ({"question": "{numbers} {target}", "per_text": 2}, "each text is the answer to one"),
        ({"minimum": 9, "maximum": 8}, "minimum 9 is above maximum 8"),
        (
            {"maximum": 3, "test_questions": 5, "train_questions": 90},
            r"train_questions = 90, but 9,000 tries found only",
        ),
    ]:
        with pytest.raises(ConfigError, match=words):
            build_conversation_source({**TABLE, **changes}, "source")
