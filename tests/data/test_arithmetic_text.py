"""Arithmetic written out: every line is right, and nothing in it is asked for testing."""

from __future__ import annotations

import re

import pytest

from tutelage.data import build_conversation_source, build_judged_source, build_prompt_source
from tutelage.data.arithmetic_text import ArithmeticTextSource, steps
from tutelage.environments import Arithmetic
from tutelage.errors import ConfigError, DataError

TABLE = {"operators": ["+", "-"], "maximum": 99, "train_questions": 6000, "test_questions": 300, "seed": 5}
TOLD = "{expression}:\n{steps}\nanswer {answer}"


def texts(**changes) -> list[str]:
    source = build_conversation_source({"type": "arithmetic-text", **TABLE, **changes}, "source")
    found = source.load_conversations()
    assert all(one.prompt == "" for one in found)
    assert len({one.id for one in found}) == len(found)
    return [one.completion or "" for one in found]


@pytest.mark.parametrize(
    ("question", "lines"),
    [
        ((37, "+", 58), ["37 + 50 = 87", "87 + 8 = 95"]),
        ((500, "-", 307), ["500 - 300 = 200", "200 - 7 = 193"]),
        ((37, "*", 58), ["37 * 50 = 1850", "37 * 8 = 296", "1850 + 296 = 2146"]),
        ((2, "*", 123), ["2 * 100 = 200", "2 * 20 = 40", "2 * 3 = 6", "200 + 40 = 240", "240 + 6 = 246"]),
        ((7, "+", 0), ["7 + 0 = 7"]),
        ((3, "-", -12), ["3 - -10 = 13", "13 - -2 = 15"]),
    ],
)  # fmt: skip
def test_steps_by_hand(question, lines):
    assert [f"{a} {op} {b} = {eval(f'{a} {op} ({b})')}" for a, op, b in steps(question)] == lines


@pytest.mark.parametrize("changes", [{}, {"operators": ["*"], "minimum": -9, "train_questions": 4000}])
def test_every_line_is_right_and_the_last_is_the_answer(changes):
    for text in texts(template=TOLD, **changes)[:2000]:
        first, *lines, last = text.splitlines()
        equations = [line.split(" = ") for line in lines]
        for left, right in equations:
            a, op, b = re.fullmatch(r"(-?\d+) ([-+*]) (-?\d+)", left).groups()
            assert eval(f"{a} {op} ({b})") == int(right), text
        assert last == f"answer {equations[-1][1]}"
        a, op, b = re.fullmatch(r"(-?\d+) ([-+*]) (-?\d+):", first).groups()
        assert eval(f"{a} {op} ({b})") == int(equations[-1][1]), text


@pytest.mark.parametrize("template", ["{expression} = {answer}", TOLD])
def test_no_line_is_a_question_that_the_environment_asks_for_testing(template):
    asked = [prompt.id.removeprefix("arithmetic:") for prompt in Arithmetic(**TABLE).prompts("test")]
    pairs = [question.split(" ") for question in asked]
    held_out = {*asked, *(f"{b} {op} {a}" for a, op, b in pairs)}
    told = texts(template=template)
    found = {f"{a} {op} {b}" for text in told for a, op, b in re.findall(r"(\d+) ([-+]) (\d+)", text)}
    assert len(found) > 2000
    assert not found & held_out
    assert (len(told) == 6000) == (template != TOLD)
    assert {text.split(" = ")[0] for text in texts(split="test")} == set(asked)


def test_several_questions_make_a_text_and_the_same_table_the_same_texts():
    alone, together = texts(), texts(per_text=7)
    assert "\n".join(alone) == "\n".join(together)
    assert [text.count("\n") for text in together] == [6] * (6000 // 7) + [6000 % 7 - 1]
    assert alone == texts()
    assert alone != texts(seed=6)


def test_what_cannot_be_is_refused(monkeypatch):
    table = {"type": "arithmetic-text", **TABLE}
    for build in (build_prompt_source, build_judged_source):
        with pytest.raises(ConfigError, match="source: 'arithmetic-text' tells and does not ask"):
            build(table, "source")
    with pytest.raises(ConfigError, match=r"source: train_questions .* widen"):
        build_conversation_source({**table, "train_questions": 99999}, "source")
    for template in ("{expression}", "{answer} {question}"):
        with pytest.raises(ConfigError, match=r"template: .*must hold \{answer\} or \{steps\}"):
            build_conversation_source({**table, "template": template}, "source")
    small = {"operators": ["+"], "maximum": 10, "minimum": 10, "train_questions": 1, "test_questions": 1}
    with pytest.raises(ConfigError, match="but only 1 different questions exist"):
        build_conversation_source({**table, **small}, "source")
    splits = {"train": [(7, "+", 12)], "test": [(10, "+", 7)]}  # 7 + 12 goes by way of 7 + 10
    monkeypatch.setattr(ArithmeticTextSource, "splits", lambda self: splits)
    with pytest.raises(DataError, match=r"lower test_questions, or leave \{steps\} out"):
        texts(template=TOLD)
    assert texts() == ["7 + 12 = 19"]


def test_with_a_question_the_text_is_the_assistants_answer():
    table = {"type": "arithmetic-text", **TABLE, "template": "{steps}\n#### {answer}"}
    found = build_conversation_source({**table, "question": "What is {expression}?"}, "source").load_conversations()
    told = {one.messages[0].content: one.messages[1].content for one in found}
    assert told["What is 87 + 12?"] == "87 + 10 = 97\n97 + 2 = 99\n#### 99"
    assert {message.role for one in found for message in one.messages[::2]} == {"user"}
    assert not set(told) & {prompt.messages[0].content for prompt in Arithmetic(**TABLE).prompts("test")}
    with pytest.raises(ConfigError, match=r"question: must hold \{expression\}"):
        build_conversation_source({**table, "question": "What?"}, "source")
    with pytest.raises(ConfigError, match="per_text: with a question each text is the answer to one"):
        build_conversation_source({**table, "question": "{expression}", "per_text": 2}, "source")
