"""Sources: what rows become, and refusals that name the file and the line."""

from __future__ import annotations

import builtins
import json
import re
import sys
import types

import datasets
import huggingface_hub
import pyarrow as pa
import pytest
from pyarrow import parquet

from tutelage.data import Conversation, Source, build_conversation_source, build_prompt_source, rows
from tutelage.errors import ConfigError, DataError, MissingExtraError
from tutelage.types import Message, Prompt


@pytest.fixture
def jsonl(tmp_path):
    """Writes lines to a file and gives the source of it."""

    def make(*lines: object, **table: object) -> Source:
        path = tmp_path / "data.jsonl"
        raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        path.write_bytes(b"\n".join(raw) + b"\n")
        return build_prompt_source({"type": "jsonl", "path": str(path), **table}, "source")

    return make


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def test_rows_become_prompts(jsonl):
    source = jsonl(
        {"id": "a", "question": "1+1?", "answer": 2, "level": 3},
        {"question": "hi"},
        b"",
        {"id": 7, "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "answer": "x"},
    )
    prompts = source.load()
    assert prompts[0] == Prompt("a", user("1+1?"), answer="2", meta={"level": 3})
    assert prompts[1].id.endswith("data.jsonl:2")
    assert prompts[1].answer is None
    assert prompts[2] == Prompt("7", (Message("system", "s"), Message("user", "u")), answer="x")


def test_text_files_are_texts_whole(tmp_path):
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfTwo\r\nlines\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("Zoë", encoding="utf-8")
    (tmp_path / "notes.md").write_text("no text")
    one = build_conversation_source({"type": "text", "path": str(tmp_path / "b.txt")}, "source").load_conversations()
    assert [(text.prompt, text.completion) for text in one] == [("", "Two\r\nlines\n")]
    both = build_conversation_source({"type": "text", "path": str(tmp_path)}, "source").load_conversations()
    assert [text.id for text in both] == [str(tmp_path / "b.txt"), str(tmp_path / "sub" / "a.txt")]
    (tmp_path / "sub" / "a.txt").write_bytes(b"a\xff")
    with pytest.raises(DataError, match=r"a\.txt: byte 2 is not UTF-8"):
        build_conversation_source({"type": "text", "path": str(tmp_path)}, "source").load_conversations()
    with pytest.raises(DataError, match=r"c\.txt: no such file in .* did you mean 'b\.txt'"):
        build_conversation_source({"type": "text", "path": str(tmp_path / "c.txt")}, "source").load_conversations()


def test_fields_are_mapped(jsonl):
    source = jsonl(
        {"uid": "a", "q": "{1}", "solution": "because\n#### 1,042 ", "question": "other"},
        id="uid",
        question="q",
        answer="solution",
        answer_pattern="#### (.*)",
        template="Q: {question} A:",
        system="be brief",
    )
    wanted = (Message("system", "be brief"), Message("user", "Q: {1} A:"))
    assert source.load() == [Prompt("a", wanted, answer="1,042", meta={"question": "other"})]


def test_an_own_system_turn_goes_before_the_declared_one(jsonl):
    turns = [{"role": "system", "content": "mine"}, {"role": "user", "content": "u"}]
    assert jsonl({"messages": turns}, system="yours").load()[0].messages[0].content == "mine"


def test_plain_prompts(jsonl):
    assert jsonl({"question": "Once"}, plain=True).load()[0].text == "Once"
    with pytest.raises(ConfigError, match="no system turn"):
        jsonl({"question": "Once"}, plain=True, system="s")


def test_a_byte_order_mark_is_accepted_and_the_limit_holds(jsonl):
    source = jsonl(b'\xef\xbb\xbf{"id": "a", "question": "x"}', {"id": "b", "question": "y"}, b"broken", limit=2)
    assert [prompt.id for prompt in source.load()] == ["a", "b"]


GOOD = {"id": "a", "question": "x", "answer": "1"}
BAD_LINES = {
    "malformed": (b'{"question": "x",}', r"not valid JSON: .* at column \d+"),
    "not an object": (b'["x"]', "must be an object with fields, not a list"),
    "NUL byte": (b'{"question": "a\x00b"}', "NUL bytes"),
    "NUL character": (rb'{"question": "a\u0000b"}', "'question' holds a NUL character"),
    "NUL in a part of meta": (rb'{"question": "a", "x": [{"y": "\u0000"}]}', r"'x'\[0\].y holds a NUL"),
    "lone surrogate": (rb'{"question": "ab\ud800"}', "'question': character 3 is a lone surrogate"),
    "not UTF-8": (b'{"question": "\xff"}', "byte 15 is not UTF-8"),
    "nested too deeply": (b"[" * 100_000, "nested too deeply"),
    "nested deeply in meta": (b'{"question": "x", "y": ' + b"[" * 150 + b"]" * 150 + b"}", "nested too deeply"),
    "surrogate in a name": (
        rb'{"question": "x", "a\ud800": 1}',
        "the name of field .* character 2 is a lone surrogate",
    ),
    "NUL in a name within": (rb'{"question": "x", "y": {"\u0000": 1}}', "the name .* holds a NUL"),
    "a field twice": (b'{"question": "x", "answer": "1", "answer": "2"}', "field 'answer' stands there twice"),
    "NaN": (b'{"question": "x", "answer": NaN}', "NaN is no number in JSON"),
    "out of range": (b'{"question": "x", "answer": 1e999}', "1e999 is no number in JSON"),
    "too many digits": (b'{"question": "x", "answer": ' + b"9" * 5000 + b"}", "Exceeds the limit .*; write it as text"),
    "missing field": (b'{"qestion": "x"}', "no field 'question'; did you mean 'qestion'"),
    "wrong type": (b'{"question": 3}', "'question' must be text, not a int"),
    "null": (b'{"question": null}', "'question' must be text, not null"),
    "empty": (b'{"question": " \\n"}', "'question' is empty"),
    "wrong answer": (b'{"question": "x", "answer": ["1"]}', "'answer' must be text, not a list"),
    "boolean answer": (b'{"question": "x", "answer": true}', "must be text, not true or false"),
    "duplicate id": (b'{"id": "a", "question": "y"}', r"id 'a' is already taken at .*data.jsonl:1"),
    "wrong id": (b'{"id": {}, "question": "y"}', "'id' must be text"),
    "messages as text": (b'{"messages": "hi"}', "'messages' must be a list of messages, not text"),
    "no messages": (b'{"messages": []}', "must be a list of messages, not empty"),
    "a message as text": (b'{"messages": ["hi"]}', r"messages\[0\]: must be an object"),
    "unknown role": (
        b'{"messages": [{"role": "asistant", "content": "x"}]}',
        r"messages\[0\]: unknown role 'asistant': did you mean 'assistant'",
    ),
    "missing content": (b'{"messages": [{"role": "user", "contents": "x"}]}', "no field 'content'; did you mean"),
    "content in parts": (b'{"messages": [{"role": "user", "content": [{"text": "x"}]}]}', "must be text, not a list"),
    "tool calls": (
        b'{"messages": [{"role": "user", "content": "x", "tool_calls": [1]}]}',
        "'tool_calls' would be lost",
    ),
    "answered twice": (
        b'{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "answer": "z"}',
        "messages ends with an answer and 'answer' is one",
    ),
    "nothing asked": (
        b'{"messages": [{"role": "assistant", "content": "y"}]}',
        "messages asks nothing: the user's turn is missing",
    ),
}


@pytest.mark.parametrize("name", list(BAD_LINES))
def test_bad_lines_are_refused_with_file_and_line(jsonl, name):
    line, message = BAD_LINES[name]
    with pytest.raises(DataError, match=rf"data\.jsonl:2:? .*{message}"):
        jsonl(GOOD, line).load()


def test_a_conversation_asks_up_to_its_last_answer_which_is_the_gold_one(jsonl):
    turns = [("user", "x"), ("assistant", "y"), ("user", "and?"), ("assistant", "z")]
    row = json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]})
    (prompt,) = jsonl(row.encode()).load()
    assert [message.content for message in prompt.messages] == ["x", "y", "and?"]
    assert prompt.answer == "z"


@pytest.mark.parametrize("lines", [[], [b""], [b" ", b"\t"]])
def test_an_empty_data_set_is_refused(jsonl, lines):
    with pytest.raises(DataError, match=r"data\.jsonl: the data set is empty"):
        jsonl(*lines).load()


def test_a_gold_answer_that_the_recipe_names_must_be_there(jsonl):
    with pytest.raises(DataError, match=r"data\.jsonl:1: no field 'gold'"):
        jsonl({"question": "x", "answer": "1"}, answer="gold").load()
    with pytest.raises(DataError, match=r"nothing in 'answer' matches answer_pattern"):
        jsonl({"question": "x", "answer": "1"}, answer_pattern="#### (.*)").load()


def test_missing_files_are_refused_with_the_nearest(jsonl, tmp_path):
    jsonl(GOOD)
    with pytest.raises(DataError, match=r"dat\.jsonl: no such file in .*did you mean 'data\.jsonl'"):
        build_prompt_source({"type": "jsonl", "path": str(tmp_path / "dat.jsonl")}, "source").load()
    with pytest.raises(DataError, match=r"nor its folder .*paths begin at the current folder"):
        build_prompt_source({"type": "parquet", "path": "nowhere/x.parquet"}, "source").load()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"type": "jsnl", "path": "x"}, "source.type: unknown 'jsnl': did you mean 'jsonl'"),
        ({"type": "jsonl", "paht": "x"}, "unknown key 'paht': did you mean 'path'"),
        ({"type": "jsonl", "path": "x", "limit": 0}, "source.limit: .*greater than 0"),
        ({"type": "jsonl", "path": "x", "template": "Q"}, "template must contain {question}"),
        ({"type": "jsonl", "path": "x", "answer_pattern": "("}, "not a regular expression"),
        ({"type": "jsonl", "path": "x", "answer_pattern": "(a)(b)"}, "must have one group"),
        ({"type": "jsonl", "path": "x", "completion": "c"}, "source.completion: has no use for prompts"),
        ({"type": "hub", "name": "../pickles"}, "source.name: "),
        ({"type": "hub", "name": "o/n", "trust_remote_code": True}, "unknown key 'trust_remote_code'"),
        ({"type": "python", "function": "os.system('x')"}, "source.function: "),
    ],
)
def test_bad_tables_are_refused_before_anything_is_read(table, message):
    with pytest.raises(ConfigError, match=message):
        build_prompt_source(table, "source")


def test_rows_become_conversations(jsonl, tmp_path):
    turns = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    jsonl(
        {"id": "m", "messages": turns},
        {"id": "q", "question": "1+1?", "answer": 2 * "2"},
        {"id": "p", "prompt": "Once", "completion": " upon"},
    )
    table = {"type": "jsonl", "path": str(tmp_path / "data.jsonl"), "system": "s"}
    system = Message("system", "s")
    assert build_conversation_source(table, "source").load_conversations() == [
        Conversation("m", (system, Message("user", "u"), Message("assistant", "a"))),
        Conversation("q", (system, Message("user", "1+1?"), Message("assistant", "22"))),
        Conversation("p", prompt="Once", completion=" upon"),
    ]
    jsonl({"id": "q", "question": "Once", "answer": " upon"})
    plain = build_conversation_source({"type": "jsonl", "path": table["path"], "plain": True}, "source")
    assert plain.load_conversations() == [Conversation("q", prompt="Once", completion=" upon")]


def marked(*marks: object, key: str = "weight") -> list[dict[str, object]]:
    """The user's and the assistant's turns by turns, each with a mark."""
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": str(i), key: mark} for i, mark in enumerate(marks)]


@pytest.mark.parametrize("key", ["weight", "train"])
@pytest.mark.parametrize(
    ("marks", "wanted"),
    [
        ((None, None, None, None), None),
        ((None, 0, None, 1), (3,)),
        ((None, 1, None, 0), (1,)),
        ((0, 0, 0, None), (3,)),  # a turn that says nothing is learned, as in OpenAI's format
        ((None, 1, None, None), (1, 3)),
        ((None, True, None, False), (1,)),
        ((0.0, 0.0, 0.0, 1.0), (3,)),
    ],
)
def test_marks_choose_the_turns_to_learn_from(jsonl, key, marks, wanted):
    turns = marked(*marks, key=key)
    (conversation,) = jsonl({"messages": turns}).load_conversations()
    assert conversation.learned == wanted
    (continued,) = jsonl({"prompt": turns[:3], "completion": turns[3:]}).load_conversations()
    assert (continued.messages, continued.learned) == (conversation.messages, wanted)
    (after,) = jsonl({"messages": turns}, system="s").load_conversations()
    assert after.messages[0] == Message("system", "s")
    assert after.learned == (wanted and tuple(i + 1 for i in wanted))


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        (marked(None, 0.5), r"messages\[1\]: 'weight' must be 0 or 1, false or true \(given: 0.5\)"),
        (marked(None, "no", key="train"), r"messages\[1\]: 'train' must be 0 or 1, false or true \(given: 'no'\)"),
        (marked(None, 1, 1, 1), r"messages\[2\]: 'weight' marks a turn of the user .*; set it to 0, or leave it out"),
        ([*marked(0), {**marked(0, 1)[1], "train": True}], r"messages\[1\]: has both 'weight' and 'train'; keep one"),
        (marked(0, 0, 0, 0), r"no turn of the assistant is left .*\(messages 1, 3 are marked.*mark one .* or remove"),
    ],
)
def test_bad_marks_are_refused_with_line_message_and_remedy(jsonl, turns, message):
    with pytest.raises(DataError, match=rf"data\.jsonl:2: {message}"):
        jsonl({"messages": marked(0, 1)}, {"messages": turns}).load_conversations()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [{"role": "user", "content": "u"}]}, "no answer of the assistant"),
        ({"messages": [{"role": "assistant", "content": "u"}]}, "no answer of the assistant"),
        ({"question": "x"}, "no field 'answer'"),
        ({"prompt": "x", "completon": "y"}, "no field 'completion'; did you mean 'completon'"),
        ({"prompt": "x", "completion": ""}, "'completion' is empty"),
        ({"instruction": "x"}, "no field 'question'"),
    ],
)
def test_rows_that_teach_nothing_are_refused(jsonl, row, message):
    with pytest.raises(DataError, match=rf"data\.jsonl:1: .*{message}"):
        jsonl(row).load_conversations()


def test_keys_without_a_use_for_conversations_are_refused():
    with pytest.raises(ConfigError, match=r"source.answer_pattern: has no use for conversations"):
        build_conversation_source({"type": "jsonl", "path": "x", "answer_pattern": "a"}, "source")


def test_parquet(tmp_path):
    path = tmp_path / "data.parquet"
    turns = [[{"role": "user", "content": "u"}], None]
    parquet.write_table(pa.table({"messages": turns, "question": [None, "x"], "answer": ["1", "2"]}), path)
    source = build_prompt_source({"type": "parquet", "path": str(path)}, "source")
    assert [(p.messages[0].content, p.answer) for p in source.load()] == [("u", "1"), ("x", "2")]
    parquet.write_table(pa.table({"question": ["x", ""]}), path)
    with pytest.raises(DataError, match=r"data\.parquet: row 2: field 'question' is empty"):
        source.load()
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        source.load()


def python_source(monkeypatch, make) -> Source:
    module = types.ModuleType("my_rows")
    module.make = make
    monkeypatch.setitem(sys.modules, "my_rows", module)
    return build_prompt_source({"type": "python", "function": "my_rows:make"}, "source")


def test_python_functions(monkeypatch):
    prompt = Prompt("own", user("u"))
    assert python_source(monkeypatch, lambda: [prompt, {"id": "b", "question": "x"}]).load()[0] is prompt
    own = Conversation("c", prompt="a", completion="b")
    assert python_source(monkeypatch, lambda: iter([own])).load_conversations() == [own]


def test_python_functions_that_fail_are_named(monkeypatch):
    def broken():
        yield {"question": "x"}
        raise RuntimeError("no more")

    with pytest.raises(DataError, match=r"my_rows:make: raised RuntimeError after item 1: no more"):
        python_source(monkeypatch, broken).load()
    with pytest.raises(DataError, match="my_rows:make: item 1: field 'question' must be text"):
        python_source(monkeypatch, lambda: [{"question": 1}]).load()
    with pytest.raises(DataError, match="not a function"):
        python_source(monkeypatch, 3).load()
    monkeypatch.delitem(sys.modules, "my_rows")
    with pytest.raises(ConfigError, match="cannot import 'my_rows'"):
        build_prompt_source({"type": "python", "function": "my_rows:make"}, "source").load()


def test_own_sources_by_class(monkeypatch):
    class Own(Source):
        type: str = "own"

        def rows(self):
            yield "here", {"question": "x"}

    module = types.ModuleType("my_source")
    module.Own = Own
    monkeypatch.setitem(sys.modules, "my_source", module)
    assert build_prompt_source({"type": "my_source:Own"}, "source").load() == [Prompt("here", user("x"))]


HUB = {"type": "hub", "name": "owner/set", "subset": "main", "split": "train"}


def test_the_hub_is_asked_for_rows_and_never_for_code(monkeypatch):
    asked = {}

    def load(*args, **options):
        asked.update(options, args=args, offline=datasets.config.HF_HUB_OFFLINE)
        return datasets.Dataset.from_list([{"question": "x"}, {"question": " "}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(rows, "hub_reachable", lambda: True)
    source = build_prompt_source({**HUB, "limit": 1}, "source")
    assert source.load() == [Prompt("owner/set[train]: row 1", user("x"))]
    assert asked["args"] == ("owner/set", "main")
    assert not asked.get("trust_remote_code", False)
    assert not asked["offline"]
    with pytest.raises(DataError, match=re.escape("owner/set[train]: row 2: field 'question' is empty")):
        build_prompt_source(HUB, "source").load()


def test_without_a_network_the_hub_is_refused_at_once(monkeypatch):
    offline = []

    def load(*_, **__):
        offline.extend((datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE))
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(rows, "hub_reachable", lambda: False)
    with pytest.raises(DataError, match=r"hub cannot be reached .*use type = 'jsonl'"):
        build_prompt_source(HUB, "source").load()
    assert offline == [True, True]
    assert not datasets.config.HF_HUB_OFFLINE
    assert not huggingface_hub.constants.HF_HUB_OFFLINE
    monkeypatch.setattr(rows, "hub_reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: (_ for _ in ()).throw(ValueError("no such split")))
    with pytest.raises(DataError, match=r"split train\): cannot be loaded: no such split"):
        build_prompt_source(HUB, "source").load()


@pytest.mark.parametrize("table", [{"type": "parquet", "path": __file__}, {"type": "hub", "name": "owner/set"}])
def test_missing_extras_are_named(monkeypatch, table):
    monkeypatch.setattr(rows.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"tutelage\[data\]"):
        build_prompt_source(table, "source").load()


def test_nothing_of_a_row_is_evaluated(jsonl, monkeypatch):
    for name in ("eval", "exec"):
        monkeypatch.setattr(builtins, name, lambda *_: pytest.fail("evaluated"))
    text = "{{ 7 * 7 }} {question} __import__('os') {0.__class__}"
    assert jsonl({"question": text}, template="<{question}>").load()[0].messages[0].content == f"<{text}>"
