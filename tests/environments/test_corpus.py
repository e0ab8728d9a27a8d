"""The environment `corpus`: positions as prompts, in a chat and as plain text; its own answers score 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.rewards.made import sample
from tutelage.data.positions import Position, write_positions
from tutelage.environments import Corpus, build_environment, gold_failures, overlap
from tutelage.errors import ConfigError, DataError
from tutelage.stages.context import prompts_of

POSITIONS = [
    Position("train/0", "train", "The sky is", " blue.", (5, 6), (9, 8), (1, 2, 3), 1.2),
    Position("train/1", "train", "Two {plus} two", " is four", (3, 8), (7, 6), (4, 5), 0.4),
    Position("test/0", "test", "Snow is", " white", (6,), (5,), (1, 3), 1.6),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_positions(tmp_path / "prompts.jsonl", POSITIONS)
    return tmp_path / "prompts.jsonl"


def build(**table: Any) -> Corpus:
    environment = build_environment({"type": "corpus", **table}, "environments.words")
    assert isinstance(environment, Corpus)
    return environment


def test_a_position_is_asked_in_a_chat(path: Path) -> None:
    environment = build(path=str(path))
    first, second = environment.prompts("train")
    assert (first.id, first.answer, first.messages[0].role) == ("train/0", " blue.", "user")
    assert first.messages[0].content.endswith("The text:\nThe sky is")
    assert r"\boxed{}" in first.messages[0].content
    assert second.messages[0].content.endswith("Two {plus} two")
    assert dict(first.meta) == {
        "context": "The sky is", "context_tokens": (1, 2, 3), "tokens": (9, 8), "ends": (5, 6), "entropy": 1.2,
    }  # fmt: skip
    score = environment.scorer().score
    assert [score(first, sample(text)) for text in (r"</think>\boxed{ blue}", r"\boxed{blue}")] == [1.0, 0.0]
    assert environment.demonstration(second) == r"\boxed{ is four}"
    assert gold_failures(environment, "train") == []
    assert overlap(environment) == []


def test_a_position_is_a_plain_text_with_a_thought_begun(path: Path) -> None:
    assert build(path=str(path), plain=True).prompts("test")[0].text == "Snow is<think>"
    assert build(path=str(path), plain=True, beginning="").prompts("test")[0].text == "Snow is"
    asked = build(path=str(path), instruction="{context} ...?").prompts("test")[0]
    assert asked.messages[0].content == "Snow is ...?"


def test_the_entropy_chooses(path: Path) -> None:
    assert [prompt.id for prompt in build(path=str(path), least=0.5).prompts("train")] == ["train/0"]
    assert len(build(path=str(path), least=0.4).prompts("train")) == 2
    with pytest.raises(DataError, match=r"none of its 2 positions of the split 'train' .* least = 1\.5 .* 3 positions"):
        build(path=str(path), least=1.5).prompts("train")


def test_what_a_stage_makes_is_there_once_it_has_run(path: Path) -> None:
    environment = build(stage="look", least=0.5)
    assert environment.reads == ("look",)
    assert prompts_of(environment, "train", must_reach=True) == ()
    ready = environment.completed({"look": path})
    assert ready.reads == ()
    assert [prompt.id for prompt in ready.prompts("train")] == ["train/0"]
    assert build(path=str(path)).reads == ()


def test_it_may_be_a_part_of_a_mixture(path: Path) -> None:
    others = {"sums": {"type": "arithmetic", "train_questions": 6, "test_questions": 3}}
    others["words"] = {"type": "corpus", "stage": "look"}
    parts = [{"environment": "sums"}, {"environment": "words"}]
    mixture = build_environment({"type": "mixture", "parts": parts}, "environments.both", others)
    assert mixture.reads == ("look",)
    assert prompts_of(mixture, "train", must_reach=True) == ()
    ready = mixture.completed({"look": path})
    assert ready.reads == ()
    asked = ready.prompts("test")
    assert sorted(prompt.part or "" for prompt in asked) == ["sums"] * 3 + ["words"]
    (word,) = (prompt for prompt in asked if prompt.part == "words")
    assert ready.scorer().score(word, sample(r"\boxed{ white}")) == 1.0


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "give either stage"),
        ({"stage": "a", "path": "b"}, "give either stage"),
        ({"path": "b", "plain": True, "instruction": "{context}"}, "instruction: is for a chat"),
        ({"path": "b", "beginning": "<think>"}, "beginning: is for plain = true"),
        ({"path": "b", "instruction": "Go on."}, r"instruction: must contain \{context\}"),
        ({"path": "b", "lest": 0.5}, "unknown key 'lest': did you mean 'least'"),
    ],
)
def test_wrong_tables_are_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(**table)


def test_a_file_that_is_missing_or_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file"):
        build(path=str(tmp_path / "nowhere.jsonl")).prompts("train")
    (tmp_path / "texts.jsonl").write_text(json.dumps({"text": "The sky is blue."}) + "\n")
    with pytest.raises(DataError, match=r"texts\.jsonl:1: id: Field required; this is not what a `positions` stage"):
        build(path=str(tmp_path / "texts.jsonl")).prompts("train")
