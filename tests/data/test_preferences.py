"""Judged answers: what each form of a row becomes, and refusals that name the file, the line and the field."""

from __future__ import annotations

import json
import re
import warnings

import pytest

from tutelage.data import AnySource, Judged, build_judged_source
from tutelage.errors import ConfigError, DataError
from tutelage.types import Message, Prompt


@pytest.fixture
def jsonl(tmp_path):
    """Writes rows to a file and gives the source of it."""

    def make(*rows: object, **table: object) -> AnySource:
        path = tmp_path / "data.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return build_judged_source({"type": "jsonl", "path": str(path), **table}, "source")

    return make


def turn(role, content):
    return {"role": role, "content": content}


ASKED = turn("user", "1+1?")
USER = (Message("user", "1+1?"),)
SAID = [turn("user", "hi"), turn("assistant", "hello"), ASKED]
TURNS = (Message("user", "hi"), Message("assistant", "hello"), Message("user", "1+1?"))
YES, NO = turn("assistant", "2"), turn("assistant", "3")
FORMS = {
    "plain texts": (
        {"id": "a", "prompt": "The sky is", "chosen": " blue.", "rejected": " green.", "by": 7},
        Judged(Prompt("a", text="The sky is", meta={"by": 7}), (" blue.", " green."), (1.0, 0.0)),
    ),
    "a question": (
        {"id": "a", "question": "1+1?", "chosen": "2", "rejected": "3"},
        Judged(Prompt("a", USER), ("2", "3"), (1.0, 0.0)),
    ),
    "a prompt of messages and texts": (
        {"id": "a", "prompt": [ASKED], "chosen": "2", "rejected": "3"},
        Judged(Prompt("a", USER), ("2", "3"), (1.0, 0.0)),
    ),
    "a prompt and answers of messages": (
        {"id": "a", "prompt": SAID, "chosen": [YES], "rejected": [NO]},
        Judged(Prompt("a", TURNS), ("2", "3"), (1.0, 0.0)),
    ),
    "a text and answers of messages": (
        {"id": "a", "prompt": "1+1?", "chosen": [YES], "rejected": [NO]},
        Judged(Prompt("a", USER), ("2", "3"), (1.0, 0.0)),
    ),
    "conversations with a shared beginning": (
        {"id": "a", "chosen": [*SAID, YES], "rejected": [*SAID, NO]},
        Judged(Prompt("a", TURNS), ("2", "3"), (1.0, 0.0)),
    ),
    "conversations that repeat the prompt": (
        {"id": "a", "prompt": SAID, "chosen": [*SAID, YES], "rejected": [*SAID, NO]},
        Judged(Prompt("a", TURNS), ("2", "3"), (1.0, 0.0)),
    ),
    "a margin": (
        {"id": "a", "prompt": "x", "chosen": "2", "rejected": "3", "margin": 0.25},
        Judged(Prompt("a", text="x"), ("2", "3"), (0.25, 0.0)),
    ),
    "two scores": (
        {"id": "a", "prompt": "x", "chosen": "2", "rejected": "3", "score_chosen": 8.5, "score_rejected": 7},
        Judged(Prompt("a", text="x"), ("2", "3"), (1.5, 0.0)),
    ),
    "scores": (
        {"id": "a", "prompt": "x", "answers": ["2", "3", "4"], "scores": [1, -2.5, 1]},
        Judged(Prompt("a", text="x"), ("2", "3", "4"), (1.0, -2.5, 1.0)),
    ),
    "ranks": (
        {"id": "a", "prompt": "x", "answers": ["2", "3", "4"], "ranks": [1, 3, 2]},
        Judged(Prompt("a", text="x"), ("2", "3", "4"), (2.0, 0.0, 1.0)),
    ),
    "a label": (
        {"id": "a", "prompt": "x", "completion": "2", "label": True},
        Judged(Prompt("a", text="x"), ("2",), (1.0,)),
    ),
    "steps": (
        {"id": "a", "prompt": "x", "completions": ["1", "2 "], "labels": [True, False], "label": None},
        Judged(Prompt("a", text="x"), ("1", "2 "), (1.0, 0.0), stepwise=True),
    ),
    "steps with shares": (
        {"id": "a", "prompt": SAID, "completions": ["1"], "labels": [0.375]},
        Judged(Prompt("a", TURNS), ("1",), (0.375,), stepwise=True),
    ),
    "steps to a question": (
        {"id": "a", "question": "1+1?", "completions": ["1", "2"], "labels": [1, 1]},
        Judged(Prompt("a", USER), ("1", "2"), (1.0, 1.0), stepwise=True),
    ),
    "a label for messages": (
        {"id": "a", "prompt": SAID, "completion": [NO], "label": 0},
        Judged(Prompt("a", TURNS), ("3",), (0.0,)),
    ),
}


@pytest.mark.parametrize("name", list(FORMS))
def test_rows_become_judged_answers(jsonl, name):
    row, judged = FORMS[name]
    assert jsonl(row).load_judged() == [judged]


def test_fields_are_mapped_and_a_system_turn_goes_before(jsonl):
    row = {"uid": 3, "ask": "1+1?", "good": "2", "bad": "3", "by_how_much": 2}
    names = {"id": "uid", "question": "ask", "chosen": "good", "rejected": "bad", "margin": "by_how_much"}
    wanted = Judged(Prompt("3", (Message("system", "s"), *USER)), ("2", "3"), (2.0, 0.0))
    assert jsonl(row, **names, system="s").load_judged() == [wanted]
    plain = jsonl(row, **names, plain=True, template="Q: {question}").load_judged()
    assert plain == [Judged(Prompt("3", text="Q: 1+1?"), ("2", "3"), (2.0, 0.0))]


def test_the_fields_of_steps_are_mapped(jsonl):
    row = {"problem": "1+1?", "solution": ["1", "2"], "ratings": [0.5, 1]}
    (found,) = jsonl(row, question="problem", steps="solution", labels="ratings").load_judged()
    assert (found.answers, found.scores, found.stepwise, found.prompt.meta) == (("1", "2"), (0.5, 1.0), True, {})


def test_pairs_are_the_answers_that_differ():
    prompt = Prompt("a", text="x")
    assert Judged(prompt, ("a", "b", "c"), (1.0, 3.5, 1.0)).pairs() == [(1, 0, 2.5), (1, 2, 2.5)]
    assert Judged(prompt, ("a", "b"), (0.25, 0.0)).pairs() == [(0, 1, 0.25)]
    assert Judged(prompt, ("a",), (1.0,)).pairs() == []
    assert Judged(prompt, ("a", "b"), (1.0, 0.0), stepwise=True).pairs() == []
    with pytest.raises(ValueError, match="a score for each"):
        Judged(prompt, ("a", "b"), (1.0,))
    with pytest.raises(ValueError, match="a step's label must lie between 0 and 1"):
        Judged(prompt, ("a", "b"), (1.0, 2.0), stepwise=True)


PAIR = {"prompt": "x", "chosen": "2", "rejected": "3"}
BAD = {
    "nothing judged": ({"prompt": "x", "completion": "y"}, {}, "no judged answers: wanted 'chosen' and"),
    "one side": ({"prompt": "x", "chosen": "2"}, {}, "no field 'rejected'; a comparison has two sides"),
    "a null side": ({**PAIR, "chosen": None}, {}, "no field 'chosen'"),
    "an empty side": ({**PAIR, "rejected": " "}, {}, "'rejected' is empty"),
    "a side without turns": ({**PAIR, "rejected": []}, {}, "must both be text, or both messages"),
    "no turns": ({"chosen": [], "rejected": []}, {}, "'chosen' must be a list of messages, not empty"),
    "no prompt": ({"chosen": "2", "rejected": "3"}, {}, "no field 'question'"),
    "the same twice": ({**PAIR, "chosen": "3"}, {}, "'chosen' and 'rejected' are the same; remove the row, or set"),
    "an infinite margin": ({**PAIR, "margin": float("inf")}, {}, "Infinity is no number in JSON"),
    "a margin in words": ({**PAIR, "margin": "much"}, {}, "'margin' must be a number, not text"),
    "a negative margin": ({**PAIR, "margin": -1}, {}, "'margin' is -1: the chosen answer is the worse one; swap"),
    "one score": ({**PAIR, "score_chosen": 1}, {}, "no field 'score_rejected'; did you mean"),
    "equal scores": ({**PAIR, "score_chosen": 1, "score_rejected": 1}, {}, "is 0: neither answer is better"),
    "not a number": (
        {"prompt": "x", "answers": ["a", "b"], "scores": [1, float("nan")]},
        {},
        "NaN is no number in JSON",
    ),
    "out of range": (
        {"prompt": "x", "answers": ["a", "b"], "scores": [1, 5]},
        {"score_range": [0, 4]},
        r"score 5 is not in score_range \[0, 4\]",
    ),
    "too few scores": ({"prompt": "x", "answers": ["a", "b"], "scores": [1]}, {}, "2 'answers' but 1 'scores'"),
    "too many ranks": ({"prompt": "x", "answers": ["a"], "ranks": [1, 2]}, {}, "1 'answers' but 2 'ranks'"),
    "no scores": ({"prompt": "x", "answers": ["a", "b"]}, {}, "no field 'scores'; known: answers, prompt"),
    "no answers": ({"prompt": "x", "answers": [], "scores": []}, {}, "'answers' must be a list, not empty"),
    "an empty answer": ({"prompt": "x", "answers": ["a", ""], "scores": [1, 2]}, {}, r"answers\[1\] is empty"),
    "all scores equal": ({"prompt": "x", "answers": ["a", "b"], "scores": [2, 2]}, {}, "all 'scores' are equal"),
    "all ranks equal": ({"prompt": "x", "answers": ["a", "b"], "ranks": [1, 1]}, {}, "all 'ranks' are equal"),
    "one text, two scores": (
        {"prompt": "x", "answers": ["a", "b", "a"], "scores": [2, 1, 0]},
        {},
        r"answers\[0\] and answers\[2\] are the same and are scored 2 and 0",
    ),
    "a label in words": ({"prompt": "x", "completion": "y", "label": "good"}, {}, "'label' must be true or false"),
    "a label for nothing": ({"prompt": "x", "label": True}, {}, "no field 'completion'"),
    "too few labels": ({"prompt": "x", "completions": ["a", "b"], "labels": [1]}, {}, "2 'completions' but 1 'labels'"),
    "no labels": ({"prompt": "x", "completions": ["a", "b"]}, {}, "no field 'labels'; known: completions, prompt"),
    "no steps": ({"prompt": "x", "completions": [], "labels": []}, {}, "'completions' must be a list, not empty"),
    "an empty step": ({"prompt": "x", "completions": ["a", " "], "labels": [1, 1]}, {}, r"completions\[1\] is empty"),
    "a label too high": (
        {"prompt": "x", "completions": ["a"], "labels": [1.5]},
        {},
        r"labels\[0\] is 1.5; it must be true or false, or a share from 0 to 1",
    ),
    "a label in a word": (
        {"prompt": "x", "completions": ["a"], "labels": ["good"]},
        {},
        r"labels\[0\] must be a number, not text",
    ),
    "other prompts": (
        {"chosen": [*SAID, YES], "rejected": [SAID[0], turn("assistant", "oh"), ASKED, NO]},
        {},
        "'chosen' and 'rejected' part at message 1, before their last turns",
    ),
    "another length": (
        {"chosen": [ASKED, YES], "rejected": [ASKED, YES, ASKED, NO]},
        {},
        "part at message 2, before their last turns",
    ),
    "no answer at the end": ({"chosen": [ASKED], "rejected": [ASKED]}, {}, "chosen must end with the assistant's turn"),
    "an answered prompt": ({**PAIR, "prompt": [ASKED, YES]}, {}, "the prompt ends with the assistant's turn"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_rows_are_refused_with_file_and_line(jsonl, name):
    row, table, message = BAD[name]
    with pytest.raises(DataError, match=rf"data\.jsonl:2: .*{message}"):
        jsonl({**PAIR, "id": "good"}, row, **table).load_judged()


def test_rows_that_compare_nothing_are_left_out_where_the_table_says_so(jsonl):
    same = {**PAIR, "chosen": "3"}
    tied = {"prompt": "x", "answers": ["a", "b"], "scores": [2, 2]}
    parted = {"chosen": [ASKED, YES], "rejected": [turn("user", "?"), NO]}
    source = jsonl(same, PAIR, tied, parted, incomparable="drop")
    with pytest.warns(UserWarning, match=r"3 of 4 rows compare nothing and were left out, the first: .*data.jsonl:1"):
        assert [judged.answers for judged in source.load_judged()] == [("2", "3")]
    with pytest.raises(DataError, match="'rejected' is empty"):  # damage is no tie
        jsonl({**PAIR, "rejected": ""}, incomparable="drop").load_judged()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jsonl(PAIR, incomparable="drop").load_judged()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"answer_pattern": "a"}, "source.answer_pattern: has no use for judged answers"),
        ({"text": "t"}, "source.text: has no use for judged answers"),
        ({"score_range": [4, 0]}, r"score_range must be \[lowest, highest\]"),
        ({"incomparable": "ignore"}, "source.incomparable: .*'refuse' or 'drop'"),
        ({"choosen": "good"}, "unknown key 'choosen': did you mean 'chosen'"),
        ({"format": "alpaca"}, re.escape("source.format: 'alpaca' holds no judged answers; those that do: hh-rlhf,")),
        ({"format": "hh-rhlf"}, "unknown 'hh-rhlf': did you mean 'hh-rlhf'"),
        ({"format": "hh-rlhf", "chosen": "good"}, "source.chosen: has no use beside format = 'hh-rlhf'"),
    ],
)
def test_bad_tables_are_refused(jsonl, table, message):
    with pytest.raises(ConfigError, match=message):
        jsonl(PAIR, **table)
