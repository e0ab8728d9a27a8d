"""Positions of texts: what stands before and after them, to the byte, whatever the tokens cut through."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny import tiny_tokenizer
from tutelage.data.chat import encode_plain
from tutelage.data.positions import Position, pieces, position_at, read_positions, write_positions
from tutelage.errors import DataError

TEXTS = st.text(st.sampled_from("ab 7.\n<>|é日本😀"), min_size=1, max_size=40)
STYLES = pytest.mark.parametrize("style", ["chatml", "qwen", "llama3"])


@STYLES
@settings(max_examples=60, deadline=None)
@given(text=TEXTS, size=st.integers(2, 12))
def test_pieces_are_the_text_and_none_begins_inside_a_character(style: str, text: str, size: int) -> None:
    tokenizer = tiny_tokenizer(style)
    first, cut = encode_plain(tokenizer, ""), list(pieces(tokenizer, text, size))
    assert all(len(piece) <= size for piece in cut)
    assert [token for piece in cut for token in piece[len(first) :]] == encode_plain(tokenizer, text)[len(first) :]
    assert all(piece[: len(first)] == first for piece in cut)
    if size >= 5 + len(first):  # so many hold a whole character
        assert "".join(tokenizer.decode(piece, skip_special_tokens=True) for piece in cut) == text


@STYLES
@settings(max_examples=60, deadline=None)
@given(text=TEXTS, horizon=st.integers(1, 5))
def test_ends_are_the_bytes_of_the_tokens_where_characters_end(style: str, text: str, horizon: int) -> None:
    """The oracle: a token of these tokenizers is written with one character for each of its bytes."""
    tokenizer = tiny_tokenizer(style)
    tokens = encode_plain(tokenizer, text)
    sizes = [0 if i in tokenizer.all_special_ids else len(tokenizer.convert_ids_to_tokens(i)) for i in tokens]
    whole = {len(text[:i].encode()) for i in range(len(text) + 1)}
    before = [0, *accumulate(sizes)]
    for place in range(1, len(tokens) - horizon + 1):
        found = position_at(tokenizer, tokens, place, horizon)
        start = before[place]
        ends = [end - start for end in before[place + 1 : place + horizon + 1] if end in whole]
        if start not in whole or not ends:
            assert found is None
            continue
        prefix = text.encode()[:start].decode()
        if encode_plain(tokenizer, prefix) != tokens[:place]:
            assert found is None
            continue
        assert found == (prefix, text.encode()[start : start + ends[-1]].decode(), tuple(ends))


def test_positions_by_hand() -> None:
    """`日` is three tokens of a byte each; ` answer` one of seven."""
    tokenizer = tiny_tokenizer()
    tokens = encode_plain(tokenizer, "The answer is 日本.")
    assert position_at(tokenizer, tokens, 1, 2) == ("The", " answer is", (7, 10))
    assert position_at(tokenizer, tokens, 4, 1) is None  # the token ends inside the character: no text can hit that
    assert position_at(tokenizer, tokens, 4, 3) == ("The answer is ", "日", (3,))
    assert position_at(tokenizer, tokens, 4, 7) == ("The answer is ", "日本.", (3, 6, 7))
    assert position_at(tokenizer, tokens, 5, 3) is None  # what comes before ends inside it


def test_a_context_that_would_be_encoded_in_another_way_is_no_position() -> None:
    tokenizer = tiny_tokenizer()
    apart = [*encode_plain(tokenizer, " a"), *encode_plain(tokenizer, "nswer"), *encode_plain(tokenizer, " is 7.")]
    assert encode_plain(tokenizer, " answer is 7.")[0] != apart[0]
    place = len(apart) - len(encode_plain(tokenizer, " is 7."))
    assert position_at(tokenizer, apart, place, 1) is None
    assert position_at(tokenizer, encode_plain(tokenizer, " answer is 7."), 1, 1) == (" answer", " is", (3,))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    some = [Position(f"train/{i}", "train", "日\n", " is", (3,), (266, 7), (1, 2, 3), 0.25 * i) for i in range(3)]
    write_positions(path, some)
    assert read_positions(path) == some
    assert [one.name for one in tmp_path.iterdir()] == ["prompts.jsonl"]


LINE = (
    '{"id": "a", "split": "train", "prompt": "x", "answer": "y", "ends": [1], "tokens": [1], "context_tokens": [1], '
    '"entropy": 1.0}'
)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"split": "train"', '"split": "both"', "prompts.jsonl:2: split: .*'train' or 'test'"),
        ('"ends": [1], ', "", "prompts.jsonl:2: ends: Field required"),
        ('"ends": [1]', '"ends": []', "prompts.jsonl:2: ends: .*at least 1"),
        ('"tokens": [1]', '"tokens": ["a"]', "prompts.jsonl:2: tokens.0: .*integer"),
        ('"entropy": 1.0', '"entropy": null', "prompts.jsonl:2: entropy: .*number; this is not what a `positions`"),
        (LINE, "[1]", "prompts.jsonl:2: the line: "),
    ],
)
def test_other_lines_are_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(f"{LINE}\n{LINE.replace(old, new)}\n")
    with pytest.raises(DataError, match=words):
        read_positions(path)
