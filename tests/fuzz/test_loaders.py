"""Data files and recipes of anything: each is read, or refused with its place; what is read can be written again."""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.judged import judged
from tutelage.config import Recipe, find_recipe, read_recipe
from tutelage.config.recipe import apply_override
from tutelage.data import build_conversation_source, build_judged_source, build_prompt_source
from tutelage.data.formats import FORMATS
from tutelage.errors import ConfigError, DataError


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """What is imported at the first call is no input's fault."""
    read_recipe(find_recipe("quickstart"))


BUILDERS = {
    "load": build_prompt_source,
    "load_conversations": build_conversation_source,
    "load_judged": build_judged_source,
}
FIELDS = [
    "id", "messages", "question", "answer", "prompt", "completion", "text", "chosen", "rejected", "answers", "scores",
    "ranks", "completions", "labels", "label", "margin", "role", "content", "weight", "train", "conversations", "from",
    "value", "instruction", "input", "output", "response", "helpfulness", "response_0", "response_1",
    "better_response_id", "safer_response_id", "score_chosen", "score_rejected", "tool_calls",
]  # fmt: skip
texts = st.text(max_size=12) | st.sampled_from(
    ["", " ", "user", "assistant", "system", "\x00", "\ud800", "\ufeff", "<|im_end|>", "Human: a\n\nAssistant: b",
     "\n\nHuman: a\n\nAssistant: b", "{question}", "4" * 200]
)  # fmt: skip
leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts
names = st.sampled_from(FIELDS) | texts
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=8
)
turns = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "tool"]) | texts, "content": texts | values},
        optional={"weight": values, "train": values, "from": texts, "value": texts},
    ),
    max_size=4,
)
rows = st.dictionaries(names, values | turns, max_size=6)
lines = st.lists(rows.map(json.dumps) | values.map(json.dumps) | st.text(max_size=20), min_size=1, max_size=4)
raw = lines.map("\n".join).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=60)


def read(data: bytes, method: str, table: dict[str, Any]) -> list[Any] | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.jsonl"
        path.write_bytes(data)

        def load() -> list[Any]:
            try:
                return getattr(BUILDERS[method]({"type": "jsonl", "path": str(path), **table}, "source"), method)()
            except DataError as error:
                refusals.append(str(error))
                raise

        refusals: list[str] = []
        found = judged(f"JSONL {method}", load)
        assert all("data.jsonl" in refusal and refusal.encode() for refusal in refusals)  # where, and it can be printed
        return found


@given(raw)
def test_any_file_gives_prompts_or_a_refusal(data: bytes) -> None:
    for prompt in read(data, "load", {}) or []:
        json.dumps([prompt.id, prompt.text, prompt.answer, dict(prompt.meta)], allow_nan=False).encode()
        "".join(message.content for message in prompt.messages).encode()


@given(raw)
def test_any_file_gives_conversations_or_a_refusal(data: bytes) -> None:
    for talk in read(data, "load_conversations", {}) or []:
        "".join([talk.prompt or "", talk.completion or "", *(message.content for message in talk.messages)]).encode()


@given(raw)
def test_any_file_gives_judged_answers_or_a_refusal(data: bytes) -> None:
    for one in read(data, "load_judged", {"incomparable": "drop"}) or []:
        json.dumps([one.answers, one.scores], allow_nan=False).encode()


@given(raw, st.sampled_from(sorted(FORMATS)), st.sampled_from(sorted(BUILDERS)))
def test_any_file_read_as_any_format(data: bytes, name: str, method: str) -> None:
    read(data, method, {"format": name})


toml_keys = st.sampled_from(
    ["name", "model", "seed", "stage", "type", "environment", "environments", "rewards", "steps", "source", "sampling",
     "optimizer", "lr", "algorithm", "repeat", "start", "require", "models", "compute", "track", "path", "by"]
)  # fmt: skip
toml_values = st.recursive(
    st.sampled_from(["sft", "rl", "evaluate", "pretrain", "grpo", "repeat", "base", "x", "jsonl"])
    | st.booleans()
    | st.integers(-2, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(max_codepoint=0xD7FF), max_size=6),  # JSON writes what is beyond as TOML does not
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(toml_keys, inner, max_size=4),
    max_leaves=8,
)


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


recipes = st.dictionaries(toml_keys, toml_values, max_size=6).map(
    lambda table: "\n".join(f"{key} = {toml(value)}" for key, value in table.items())
)


@given(recipes | st.text(max_size=80), st.lists(st.text(max_size=12), max_size=2))
def test_any_recipe_is_read_or_refused(text: str, overrides: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        recipe = judged("TOML recipe", lambda: read_recipe(path, overrides))
    if recipe is not None:
        assert Recipe.model_validate(json.loads(recipe.model_dump_json())) == recipe


@given(st.text(max_size=30) | st.tuples(toml_keys, st.text(max_size=10)).map("=".join))
def test_any_override_is_applied_or_refused(override: str) -> None:
    table: dict[str, Any] = {"name": "x", "stage": 3}
    judged("--set", lambda: apply_override(table, override))


@given(st.dictionaries(toml_keys, toml_values, max_size=4))
def test_the_tables_of_these_tests_are_toml(table: dict[str, Any]) -> None:
    assert tomllib.loads(f"t = {toml(table)}")["t"] == table


def test_what_is_refused_is_counted_and_what_is_slow_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise ConfigError("no")

    monkeypatch.setattr("tests.fuzz.judged.INPUTS", Counter())  # its figures are none of the whole run's
    monkeypatch.setattr("tests.fuzz.judged.SLOWEST", {})
    assert judged("here", refuse) is None
    with pytest.raises(AssertionError, match="here took"):
        judged("here", lambda: [n * n for n in range(60_000_000)])
