"""The environment `questions`: splits by question, two sources, any scorer, and refusals."""

import json

import pytest

from tutelage.environments import build_environment, gold_failures, overlap
from tutelage.errors import ConfigError, DataError
from tutelage.rewards import ExactReward, MathsReward, NumericReward


@pytest.fixture
def write(tmp_path):
    def write(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {"type": "jsonl", "path": str(path)}

    return write


def rows(count, first=0):
    return [{"question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(first, first + count)]


def build(**table):
    return build_environment({"type": "questions", **table}, "e")


def test_a_share_is_held_out(write):
    environment = build(train=write("a.jsonl", rows(50)), test_share=0.2)
    train, test = environment.prompts("train"), environment.prompts("test")
    assert (len(train), len(test)) == (40, 10)
    assert {p.id for p in train}.isdisjoint(p.id for p in test)
    assert not overlap(environment)
    assert not gold_failures(environment, "train")
    assert not gold_failures(environment, "test")


def test_a_question_that_stands_twice_is_in_one_split_only(write):
    twice = [*rows(30), *({**row, "question": row["question"].upper() + "  "} for row in rows(30))]
    environment = build(train=write("a.jsonl", twice), test_share=0.5)
    assert (len(environment.prompts("train")), len(environment.prompts("test"))) == (30, 30)
    assert not overlap(environment)


def test_the_seed_chooses_the_share(write):
    source = write("a.jsonl", rows(50))
    first, again, other = (build(train=source, seed=seed).prompts("test") for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_share_does_not_depend_on_the_rows_order(write):
    forth = build(train=write("a.jsonl", rows(50))).prompts("test")
    back = build(train=write("b.jsonl", rows(50)[::-1])).prompts("test")
    assert {p.messages for p in forth} == {p.messages for p in back}


def test_two_sources_are_taken_as_they_are_and_their_overlap_is_reported(write):
    environment = build(train=write("a.jsonl", rows(20)), test=write("b.jsonl", rows(10, first=18)))
    assert (len(environment.prompts("train")), len(environment.prompts("test"))) == (20, 10)
    assert [p.messages[0].content for p in overlap(environment)] == ["What is 18 + 18?", "What is 19 + 19?"]


@pytest.mark.parametrize(
    ("table", "scorer"),
    [
        ({}, NumericReward()),
        ({"scorer": "exact"}, ExactReward()),
        ({"scorer": {"type": "maths", "tag": "answer"}}, MathsReward(tag="answer")),
    ],
)
def test_the_scorer_is_any_reward_and_gives_the_demonstration_1(write, table, scorer):
    environment = build(train=write("a.jsonl", rows(5)), **table)
    assert environment.scorer() == scorer
    assert not gold_failures(environment, "train")


def test_gold_answers_that_the_scorer_cannot_use_are_found(write):
    bad = [*rows(8), {"question": "Why?", "answer": "because"}, {"question": "What for?"}]
    source = write("a.jsonl", bad)
    environment = build(train=source, test=source)
    failures = {prompt.messages[0].content: reason for prompt, reason in gold_failures(environment, "train")}
    assert set(failures) == {"Why?", "What for?"}
    assert "holds no number" in failures["Why?"]
    assert "no gold answer" in failures["What for?"]
    assert len(gold_failures(environment, "train", limit=8)) == 0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"scorer": "numerc"}, r"e\.scorer\.type: unknown 'numerc': did you mean 'numeric'"),
        ({"scorer": {"type": "numeric", "stict": True}}, r"e\.scorer: unknown key 'stict'"),
        ({"scorer": "task"}, r"e\.scorer: 'task' stands for"),
        ({"train": {"type": "jsnl"}}, r"e\.train\.type: unknown 'jsnl': did you mean 'jsonl'"),
        ({"test": {"type": "jsonl"}}, r"e\.test\.path"),
        ({"test": {"type": "jsonl", "path": "x"}, "test_share": 0.5}, r"e\.test_share"),
        ({"test_share": 1.0}, r"e\.test_share"),
        ({"source": {}}, "unknown key 'source'"),
    ],
)
def test_a_wrong_table_is_refused(write, table, message):
    with pytest.raises(ConfigError, match=message):
        build(**{"train": write("a.jsonl", rows(5)), **table})


def test_bad_data_is_refused_with_file_and_line(write, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n{"question": \n')
    environment = build(train={"type": "jsonl", "path": str(tmp_path / "bad.jsonl")})
    with pytest.raises(DataError, match=r"bad\.jsonl:2"):
        environment.prompts("train")
    with pytest.raises(ConfigError, match="cannot be split"):
        build(train=write("one.jsonl", rows(1))).prompts("train")
