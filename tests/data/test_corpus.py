"""A corpus: every token is predicted once, no text sees another, and it is tokenised once."""

from __future__ import annotations

from itertools import chain

import pytest

from tests.tiny import tiny_tokenizer
from tutelage.data import corpus as corpus_module
from tutelage.data.chat import render_text
from tutelage.data.corpus import kept_corpus, tokenise
from tutelage.errors import ModelError, RunFolderError

TEXTS = ["The answer is 7.", "A", "What is 12 + 30? " * 9, "is not 8", "B", "C"]


@pytest.mark.parametrize("style", ["llama3", "qwen"])  # with a token that begins a text, and without
def test_a_text_stands_between_what_begins_it_and_what_ends_it(style):
    tokenizer = tiny_tokenizer(style)
    tokens = render_text(tokenizer, "The answer<|im_end|>")
    begin = tokenizer.eos_token_id if style == "qwen" else tokenizer.bos_token_id
    assert (tokens[0], tokens[-1]) == (begin, tokenizer.eos_token_id)
    assert tokenizer.decode(tokens[1:-1]) == "The answer<|im_end|>"
    assert tokenizer.eos_token_id not in tokens[1:-1]


def predicted(rows) -> list[int]:
    return [row.tokens[i] for row in rows for i in row.actions]


@pytest.mark.parametrize("context", [2, 3, 7, 16, 64, 1000])
def test_every_token_is_predicted_once_by_those_of_its_own_text(context):
    tokenizer = tiny_tokenizer()
    texts = [render_text(tokenizer, text) for text in TEXTS]
    corpus = tokenise(tokenizer, TEXTS)
    count = corpus.sequences(context)
    rows = [row for place in range(count) for row in corpus.rows(place, context)]
    assert corpus.tokens_T.tolist() == [*chain(*texts)]
    assert all(sum(len(r.tokens) for r in corpus.rows(place, context)) <= context for place in range(count))
    assert predicted(rows) == [token for text in texts for token in text[1:]]
    for row in rows:
        assert any(str(list(row.tokens))[1:-1] in str(text)[1:-1] for text in texts)
    for number, text in enumerate(texts):
        pieces = corpus.text_rows(number, context)
        assert predicted(pieces) == text[1:]
        assert all(len(row.tokens) <= context and row.group == number for row in pieces)


def test_it_is_tokenised_once_and_anew_where_something_else_is_meant(tmp_path, monkeypatch):
    tokenizer, path = tiny_tokenizer(), tmp_path / "corpus.safetensors"
    made: list[str] = []

    def counted(tokenizer, text):
        made.append(text)
        return render_text(tokenizer, text)

    monkeypatch.setattr(corpus_module, "render_text", counted)
    first = kept_corpus(path, tokenizer, TEXTS)
    assert made == TEXTS
    again = kept_corpus(path, tokenizer, TEXTS)
    assert made == TEXTS
    assert again.tokens_T.equal(first.tokens_T)
    assert again.starts_D.equal(first.starts_D)
    kept_corpus(path, tokenizer, TEXTS[:2])
    assert made == TEXTS + TEXTS[:2]
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    assert kept_corpus(path, tokenizer, TEXTS[:2]).tokens_T.equal(first.tokens_T[: first.starts_D[2]])
    path.write_bytes(b"torn")
    kept_corpus(path, tokenizer, TEXTS[:2])
    assert made == TEXTS + 3 * TEXTS[:2]
    kept_corpus(path, tiny_tokenizer("llama3"), TEXTS[:2])
    assert made == TEXTS + 4 * TEXTS[:2]
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_what_cannot_be_is_refused(tmp_path):
    tokenizer = tiny_tokenizer()
    with pytest.raises(RunFolderError, match=r"corpus\.safetensors: cannot be written: .*; make room, then"):
        kept_corpus(tmp_path / "absent" / "corpus.safetensors", tokenizer, TEXTS)
    endless = type("Endless", (), {"eos_token_id": None})()
    with pytest.raises(ModelError, match="no end-of-text token"):
        render_text(endless, "text")
