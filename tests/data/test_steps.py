"""Where the steps of an answer end: the same in data and in samples, whatever the tokenizer merges."""

from __future__ import annotations

import pytest

from tests.tiny import STYLES, tiny_tokenizer
from tutelage.data.answers import render_answer
from tutelage.data.steps import step_ends, step_texts
from tutelage.types import Message, Prompt

STEPS = ("1 + 2 is 3", "so 3 + 4", "  the answer is 7")


def encoded(text: str, style: str = "chatml") -> list[int]:
    return tiny_tokenizer(style).encode(text, add_special_tokens=False)


# The template of thinking models puts an empty thought before an answer, which is a step more.
@pytest.mark.parametrize("style", [style for style in STYLES if style != "thinking"])
@pytest.mark.parametrize("separator", ["\n", "\n\n", " <step> "])
@pytest.mark.parametrize("asked", ["chat", "plain"])
def test_steps_that_were_joined_are_found_again(style: str, separator: str, asked: str) -> None:
    """In words too: each ends where its separator does, the last with the token that ends the answer."""
    tokenizer = tiny_tokenizer(style)
    prompt = Prompt("p", (Message("user", "1 + 2 + 4?"),)) if asked == "chat" else Prompt("p", text="1 + 2 + 4?")
    _, tokens = render_answer(tokenizer, prompt, separator.join(STEPS))
    ends = step_ends(tokenizer, tokens, separator)
    assert len(ends) == 3
    assert ends[-1] == len(tokens) - 1
    for count, end in enumerate(ends[:-1], start=1):
        so_far = tokenizer.decode(tokens[: end + 1])
        assert so_far.rstrip(" ").startswith((separator.join(STEPS[:count]) + separator).rstrip(" "))
        assert separator not in tokenizer.decode(tokens[:end])[len(separator.join(STEPS[:count])) :]
    assert [text.strip() for text in step_texts(tokenizer, tokens, ends, separator)] == [s.strip() for s in STEPS]


@pytest.mark.parametrize(
    ("text", "separator", "texts"),
    [
        ("a\nb", "\n", ["a", "b"]),
        ("a\nb\n", "\n", ["a", "b"]),
        ("\n\n a\n\n\n \nb\n\n", "\n", [" a", "b"]),
        ("a\nb\n\nc", "\n\n", ["a\nb", "c"]),
        ("a\n \nb", "\n\n", ["a\n \nb"]),
        ("no end", "\n", ["no end"]),
        ("##a##b##", "##", ["a", "b"]),
        ("", "\n", []),
        (" \n\n ", "\n", []),
    ],
)
def test_what_is_blank_is_no_step(text: str, separator: str, texts: list[str]) -> None:
    for style in STYLES:
        tokens = encoded(text, style)
        ends = step_ends(tiny_tokenizer(style), tokens, separator)
        assert step_texts(tiny_tokenizer(style), tokens, ends, separator) == texts, style


def test_an_answer_that_ends_with_the_separator_has_its_last_step_there() -> None:
    tokenizer = tiny_tokenizer()
    tokens = [*encoded("a\nb\n"), 2]
    assert step_ends(tokenizer, tokens, "\n") == [1, 3]
    assert step_ends(tokenizer, tokens[:3], "\n") == [1, 2]  # cut off in the middle of a step


def test_characters_of_several_tokens_are_no_obstacle() -> None:
    tokenizer = tiny_tokenizer()
    tokens = encoded("é\nü")
    assert len(tokens) == 5
    assert step_ends(tokenizer, tokens, "\n") == [2, 4]
    assert step_texts(tokenizer, tokens, [2, 4], "\n") == ["é", "ü"]
