"""Formats of well-known data sets, as small files: what they become, and refusals with the line."""

from __future__ import annotations

import json

import pytest

from tutelage.data import (
    Conversation,
    Judged,
    build_conversation_source,
    build_judged_source,
    build_prompt_source,
)
from tutelage.errors import ConfigError, DataError
from tutelage.types import Message, Prompt


@pytest.fixture
def table(tmp_path):
    """Writes rows to a file and gives the table of a source of it."""

    def make(*rows: object, **keys: object) -> dict[str, object]:
        path = tmp_path / "data.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {"type": "jsonl", "path": str(path), **keys}

    return make


def conversations(table):
    return build_conversation_source(table, "source").load_conversations()


def judged(table):
    return build_judged_source(table, "source").load_judged()


U, A = Message("user", "u"), Message("assistant", "a")
SHAREGPT = {"id": "s", "conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]}
ALPACA = {"id": "a", "instruction": "Add.", "input": "1, 2", "output": "3", "text": "Below is an instruction ..."}
CONVERSATIONS = {
    "sharegpt": (SHAREGPT, Conversation("s", (U, A))),
    "sharegpt with a system turn": ({**SHAREGPT, "system": "s"}, Conversation("s", (Message("system", "s"), U, A))),
    "alpaca": (ALPACA, Conversation("a", (Message("user", "Add.\n\n1, 2"), Message("assistant", "3")))),
    "alpaca without input": (
        {**ALPACA, "input": ""},
        Conversation("a", (Message("user", "Add."), Message("assistant", "3"))),
    ),
    "prompt and completion": (
        {"id": "p", "prompt": "Once", "completion": " upon"},
        Conversation("p", prompt="Once", completion=" upon"),
    ),
    "prompt and completion of messages": (
        {
            "id": "p",
            "prompt": [{"role": "user", "content": "u"}],
            "completion": [{"role": "assistant", "content": "a"}],
        },
        Conversation("p", (U, A)),
    ),
    "text": ({"id": "t", "text": "Once upon"}, Conversation("t", prompt="", completion="Once upon")),
}


@pytest.mark.parametrize("name", list(CONVERSATIONS))
def test_conversations_are_read_by_their_fields(table, name):
    row, wanted = CONVERSATIONS[name]
    assert conversations(table(row)) == [wanted]


def test_every_speaker_of_sharegpt_has_a_role(table):
    said = ["system", "human", "function_call", "observation", "gpt", "user", "tool", "assistant"]
    rows = {"conversations": [{"from": who, "value": who} for who in said]}
    (conversation,) = conversations(table(rows))
    roles = ["system", "user", "assistant", "tool", "assistant", "user", "tool", "assistant"]
    assert [(message.role, message.content) for message in conversation.messages] == list(zip(roles, said, strict=True))


def test_sharegpt_s_turns_may_be_marked(table):
    """As in SlimOrca: a weight on every turn, null for the system's."""
    said = [("system", "s", None), ("human", "u", 0), ("gpt", "a", 0), ("human", "u", 0), ("gpt", "a", 1.0)]
    turns = [{"from": who, "value": text, "weight": weight} for who, text, weight in said]
    (conversation,) = conversations(table({"id": "s", "conversations": turns}))
    assert conversation == Conversation("s", (Message("system", "s"), U, A, U, A), learned=(4,))
    turns[3]["weight"] = 1
    with pytest.raises(DataError, match=r"data.jsonl:1: conversations\[3\]: 'weight' marks a turn of the user"):
        conversations(table({"conversations": turns}))


def test_a_file_may_hold_several_formats(table):
    found = conversations(table(SHAREGPT, ALPACA, {"id": "t", "text": "x"}))
    assert [conversation.id for conversation in found] == ["s", "a", "t"]


def test_alpaca_asks_as_prompts_too(table):
    (prompt,) = build_prompt_source(table({**ALPACA, "level": 2}), "source").load()
    assert prompt == Prompt("a", (Message("user", "Add.\n\n1, 2"),), answer="3", meta={"level": 2})


def test_where_the_table_names_fields_they_are_what_counts(table):
    row = {"text": "of the whole", "q": "u", "a": "a", "id": "r"}
    assert conversations(table(row, question="q", answer="a")) == [Conversation("r", (U, A))]
    assert conversations(table(row, text="q")) == [Conversation("r", prompt="", completion="u")]
    with pytest.raises(DataError, match=r"data.jsonl:1: no field 'question'"):
        conversations(table(ALPACA, format="fields", text="t"))
    with pytest.raises(ConfigError, match=r"source.question: has no use beside format = 'alpaca'"):
        build_conversation_source(table(ALPACA, format="alpaca", question="q"), "source")
    with pytest.raises(ConfigError, match="'hh-rlhf' holds no prompts; those that do: sharegpt, alpaca"):
        build_prompt_source(table(ALPACA, format="hh-rlhf"), "source")


@pytest.mark.parametrize(
    ("row", "keys", "message"),
    [
        ({"conversations": "hi"}, {}, "'conversations' must be a list of turns with 'from' and 'value'"),
        ({"conversations": [{"from": "humn", "value": "x"}]}, {}, r"conversations\[0\]: unknown speaker 'humn': did "),
        ({"conversations": [{"from": "human"}]}, {}, r"conversations\[0\]: no field 'value'"),
        ({"conversations": ["hi"]}, {}, r"conversations\[0\]: a row must be an object with fields, not text"),
        ({"conversations": [{"from": "human", "value": "x"}]}, {}, "no answer of the assistant"),
        ({**ALPACA, "output": ""}, {}, "'output' is empty"),
        ({**ALPACA, "input": 3}, {}, "'input' must be text"),
        ({"question": "x"}, {"format": "alpaca"}, "no field 'instruction'"),
        ({"text": " "}, {}, "'text' is empty"),
        ({"prompt": [{"role": "user", "content": "u"}], "completion": "a"}, {}, "'completion' must be a list"),
        (
            {"prompt": [{"role": "user", "content": "u"}], "completion": [{"role": "user", "content": "u"}]},
            {},
            "completion has no answer of the assistant",
        ),
    ],
)
def test_bad_conversations_are_refused_with_the_line(table, row, keys, message):
    with pytest.raises(DataError, match=rf"data\.jsonl:2: .*{message}"):
        conversations(table(ALPACA, row, **keys))


HH = {
    "chosen": "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: 1+1?\n\nAssistant: 2",
    "rejected": "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: 1+1?\n\nAssistant: I'd say:\n\n3",
}
CHAT = (Message("user", "hi"), Message("assistant", "hello"), Message("user", "1+1?"))
BINARIZED = {
    "id": "b",
    "prompt": "u",
    "messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}],
    "chosen": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}],
    "rejected": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "b"}],
    "score_chosen": 8.5,
    "score_rejected": 6.0,
}
ULTRA = {
    "id": "u",
    "instruction": "u",
    "models": ["x", "y"],
    "completions": [
        {"response": "a", "overall_score": 7.5, "fine-grained_score": 4.25, "model": "x"},
        {"response": "b", "overall_score": 3.0, "fine-grained_score": 4.75, "model": "y"},
    ],
}
PKU = {
    "id": "k",
    "prompt": "u",
    "response_0": "a",
    "response_1": "b",
    "better_response_id": 1,
    "safer_response_id": 0,
    "is_response_0_safe": True,
}


def test_hh_rlhf(table):
    place = table(HH)["path"]
    wanted = Judged(Prompt(f"{place}:1", CHAT), ("2", "I'd say:\n\n3"), (1.0, 0.0))
    assert judged(table(HH)) == judged(table(HH, format="hh-rlhf")) == [wanted]


def test_ultrafeedback_binarized(table):
    wanted = Judged(Prompt("b", (U,)), ("a", "b"), (2.5, 0.0))
    assert judged(table(BINARIZED)) == judged(table(BINARIZED, format="ultrafeedback")) == [wanted]
    assert conversations(table(BINARIZED)) == [Conversation("b", (U, A))]


def test_ultrafeedback(table):
    prompt = Prompt("u", (U,), meta={"models": ["x", "y"]})
    assert judged(table(ULTRA)) == [Judged(prompt, ("a", "b"), (7.5, 3.0))]
    assert judged(table(ULTRA, score="fine-grained_score")) == [Judged(prompt, ("a", "b"), (4.25, 4.75))]


def steered(prompt, response, helpfulness, correctness=4):
    return {"prompt": prompt, "response": response, "helpfulness": helpfulness, "correctness": correctness}


def test_helpsteer_s_neighbours_are_one_prompt_s_answers(table):
    rows = [
        steered("u", "a", 3),
        steered("u", "b", 1, 0),
        steered("v", "c", 2),
        steered("u", "d", 4),
        steered("u<extra_id_1>Assistant\na<extra_id_1>User\nv", "e", 0),
    ]
    source = table(*rows, score_range=[0, 4])
    first, second, third, fourth = judged(source)
    place = source["path"]
    assert first == Judged(Prompt(f"{place}:1", (U,)), ("a", "b"), (3.0, 1.0))
    assert second == Judged(Prompt(f"{place}:3", (Message("user", "v"),)), ("c",), (2.0,))
    assert (third.id, third.answers, third.scores) == (f"{place}:4", ("d",), (4.0,))
    assert fourth.prompt.messages == (U, A, Message("user", "v"))
    assert judged(table(*rows, score="correctness"))[0].scores == (4.0, 0.0)
    assert [len(one.answers) for one in judged(table(*rows, limit=1))] == [2]


def test_pku_saferlhf_by_helpfulness_and_by_safety(table):
    meta = {key: PKU[key] for key in ("better_response_id", "safer_response_id", "is_response_0_safe")}
    prompt = Prompt("k", (U,), meta=meta)
    assert judged(table(PKU)) == [Judged(prompt, ("b", "a"), (1.0, 0.0))]
    assert judged(table(PKU, prefer="safer")) == [Judged(prompt, ("a", "b"), (1.0, 0.0))]


@pytest.mark.parametrize(
    ("row", "keys", "message"),
    [
        ({**HH, "rejected": "Hello"}, {}, "'rejected' must be a transcript that begins with a blank line and 'Human:'"),
        ({**HH, "chosen": HH["chosen"] + "\n\nHuman: ok"}, {}, "chosen must end with the assistant's turn"),
        ({**HH, "chosen": "\n\nHuman: hi\n\nAssistant: "}, {}, r"chosen\[1\]: field 'content' is empty"),
        ({**HH, "chosen": "\n\nHuman: ho\n\nAssistant: ho"}, {}, "part at message 0"),
        ({"chosen": "a", "rejected": "b"}, {"format": "hh-rlhf"}, "'chosen' must be a transcript"),
        ({**ULTRA, "completions": []}, {}, "'completions' must be a list of objects"),
        ({**ULTRA, "completions": [{"response": "a"}]}, {}, r"completions\[0\]: no field 'overall_score'"),
        ({**ULTRA, "completions": [{"overall_score": 1}]}, {}, r"completions\[0\]: no field 'response'"),
        (ULTRA, {"score": "overal_score"}, r"completions\[0\]: no field 'overal_score'; did you mean 'overall_score'"),
        (steered("u", "", 3), {}, "'response' is empty"),
        (steered("u", "a", "3"), {}, "'helpfulness' must be a number, not text"),
        (steered("u", "a", 5), {"score_range": [0, 4]}, r"score 5 is not in score_range"),
        ({**PKU, "better_response_id": 2}, {}, "'better_response_id' must be 0 or 1"),
        ({**PKU, "response_1": "a"}, {}, "'chosen' and 'rejected' are the same"),
    ],
)
def test_bad_judgements_are_refused_with_the_line(table, row, keys, message):
    good = HH if "format" in keys else PKU
    with pytest.raises(DataError, match=rf"data\.jsonl:2: .*{message}"):
        judged(table(good, row, **keys))


def test_bad_rows_of_a_group_have_lines_of_their_own(table):
    with pytest.raises(DataError, match=r"data\.jsonl:2: field 'response' is empty"):
        judged(table(steered("u", "a", 3), steered("u", " ", 2)))
    with pytest.raises(DataError, match=r"data\.jsonl:2: a row must be an object"):
        judged(table(steered("u", "a", 3), ["u"]))
