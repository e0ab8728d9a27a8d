"""Mixtures: shares, order, and items that come again."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tutelage.data import build_conversation_source, build_judged_source, build_prompt_source
from tutelage.errors import ConfigError, DataError


@pytest.fixture
def files(tmp_path):
    """Two files, of 4 and of 16 questions."""
    for name, count in (("a", 4), ("b", 16)):
        rows = [{"id": f"{name}{i}", "question": f"{name}{i}?", "answer": str(i)} for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {name: {"type": "jsonl", "path": str(tmp_path / f"{name}.jsonl")} for name in "ab"}


def mixture(files, *weights, **keys):
    parts = [
        {"source": source} if weight is None else {"source": source, "weight": weight}
        for source, weight in zip(files.values(), weights or (None, None), strict=True)
    ]
    return {"type": "mixture", "parts": parts, **keys}


def asked(table):
    return [prompt.messages[0].content for prompt in build_prompt_source(table, "train").load()]


def test_without_weights_everything_comes_once_in_an_order_of_the_seed(files):
    questions = asked(mixture(files))
    assert sorted(questions) == sorted([f"a{i}?" for i in range(4)] + [f"b{i}?" for i in range(16)])
    assert questions == asked(mixture(files, seed=0))
    assert questions != asked(mixture(files, seed=1))
    assert sorted(questions) == sorted(asked(mixture(files, seed=1)))
    assert "".join(question[0] for question in questions) != "a" * 4 + "b" * 16  # mixed, not end to end


def shares(table):
    return Counter(question[0] for question in asked(table))


def test_weights_are_kept_exactly_and_temperature_evens_sizes_out(files):
    assert shares(mixture(files, 0.7, 0.3, rows=10)) == {"a": 7, "b": 3}
    assert shares(mixture(files, 1, 1)) == {"a": 10, "b": 10}
    assert shares(mixture(files, rows=10)) == {"a": 2, "b": 8}
    assert shares(mixture(files, rows=9, temperature=2.0)) == {"a": 3, "b": 6}  # square roots: 2 and 4
    assert shares(mixture(files, rows=10, temperature=1e9)) == {"a": 5, "b": 5}
    assert shares(mixture(files, 1, 2, rows=10)) == {"a": 3, "b": 7}  # 3.33 and 6.67


def test_nothing_comes_again_before_everything_has_come_and_ids_stay_distinct(files):
    prompts = build_prompt_source(mixture(files, 10, 1, rows=11), "train").load()
    rounds = [[p.id for p in prompts if p.id.startswith(f"1.{time}/")] for time in (1, 2, 3)]
    assert [len(ids) for ids in rounds] == [4, 4, 2]
    assert sorted(rounds[0]) == [f"1.1/a{i}" for i in range(4)]
    assert len({p.id for p in prompts}) == 11
    assert len({p.messages for p in prompts if p.id[0] == "1"}) == 4
    assert all(p.answer == p.messages[0].content[1:-1] for p in prompts)


def test_the_order_within_a_part_differs_from_round_to_round(files):
    from tutelage.data.mixture import _rounds

    drawn = _rounds(range(16), 0, 1)
    first, second = ([next(drawn)[1] for _ in range(16)] for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(16))
    assert first != second


def test_conversations_and_judged_answers_are_mixed_too(files, tmp_path):
    conversations = build_conversation_source(mixture(files, rows=5), "source").load_conversations()
    assert [len(conversation.messages) for conversation in conversations] == [2] * 5
    for name in "ab":
        row = {"id": "same", "prompt": name, "chosen": "x", "rejected": "y"}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    judged = build_judged_source(mixture(files, rows=4), "source").load_judged()
    assert sorted(one.id for one in judged) == ["1.1/same", "1.2/same", "2.1/same", "2.2/same"]
    assert {one.prompt.text for one in judged} == {"a", "b"}


def test_mixtures_may_hold_mixtures(files):
    inner = mixture(files, 1, 1, rows=4)
    outer = {"type": "mixture", "parts": [{"source": inner}], "rows": 4}
    assert shares(outer) == {"a": 2, "b": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": []}, "train.parts: "),
        ({"parts": [{"source": {"type": "jsnl"}}]}, r"train.parts\[0\].source.type: unknown 'jsnl': did you mean"),
        ({"parts": [{"source": {"type": "jsonl", "path": "x", "prompt": "p"}}]}, r"parts\[0\].source.prompt: has no"),
        ({"parts": [{"source": {}, "weight": 0}]}, r"parts\[0\].weight: .*greater than 0"),
        ({"parts": [{"source": {}, "weight": 1}, {"source": {}}]}, r"parts\[1\] has no weight; give one to every part"),
        ({"parts": [{"source": {}, "weight": 1}], "temperature": 2.0}, "temperature: has no use beside weights"),
        ({"row": 3}, "unknown key 'row': did you mean 'rows'"),
        ({"rows": 0}, "train.rows: .*greater than 0"),
    ],
)
def test_bad_mixtures_are_refused_before_anything_is_read(files, change, message):
    with pytest.raises(ConfigError, match=message):
        build_prompt_source({**mixture(files), **change}, "train")


def test_a_bad_row_keeps_its_place(files):
    with open(files["b"]["path"], "a") as file:
        file.write("{}\n")
    with pytest.raises(DataError, match=r"b\.jsonl:17: no field 'question'"):
        asked(mixture(files))
