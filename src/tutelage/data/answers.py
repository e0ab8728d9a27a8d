"""An answer to a prompt as the sampler would have written it: the tokens of the one, then those of the other."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tutelage.data.chat import Conversation, render_conversation, render_prompt
from tutelage.errors import DataError, ModelError
from tutelage.types import Message, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def render_answer(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, answer: str) -> tuple[list[int], list[int]]:
    """The prompt's tokens, and the answer's, which end with the token that ends a turn or a text.

    Raises:
        DataError: the chat template writes the prompt in another way once it is answered, so that the answers to one
            prompt would not follow the same tokens.
    """
    asked = render_prompt(tokenizer, prompt)
    if prompt.messages:
        turns = (*prompt.messages, Message("assistant", answer))
        conversation = Conversation(prompt.id, messages=turns)
    else:
        conversation = Conversation(prompt.id, prompt=prompt.text, completion=answer)
    rendered = render_conversation(tokenizer, conversation, "last-assistant")
    end = len(rendered.mask) - rendered.mask[::-1].index(True)
    if rendered.tokens[: len(asked)] != asked:
        raise DataError(
            f"prompt {prompt.id!r}: with an answer after it, the chat template writes it in another way than when it "
            "asks, so the answer does not follow the prompt's own tokens"
        )
    return asked, rendered.tokens[len(asked) : end]


def tokens_after(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], mark: str) -> list[int]:
    """The tokens of an answer that follow the last `mark` in it; the token that ends a text where nothing does.

    They are found by decoding and never encoded again; a token that the mark ends in is not among them. Without the
    mark there is no answer, and an empty one is its end alone.

    Raises:
        ModelError: the tokenizer has no token that ends a text.
    """
    if not isinstance(tokenizer.eos_token_id, int):
        raise ModelError(f"the tokenizer '{tokenizer.name_or_path}' has no end-of-text token, as an empty answer is")

    def marks(count: int) -> int:
        return tokenizer.decode(tokens[:count], clean_up_tokenization_spaces=False).count(mark)

    found = marks(len(tokens))
    end = bisect_left(range(len(tokens) + 1), found, key=marks) if found else len(tokens)
    return list(tokens[end:]) or [tokenizer.eos_token_id]


def choice_tokens(tokenizer: PreTrainedTokenizerBase, choices: Sequence[str]) -> tuple[list[int], list[int]]:
    """How the assistant's turn begins that names one of some choices in double brackets, and each choice's own token.

    [[A]] and [[B]] begin alike, up to and with "[[" and whatever the chat template writes ahead of an answer; the next
    token is the choice.

    Raises:
        ModelError: a choice is no single token there.
    """
    prompt = Prompt("choice", (Message("user", "?"),))
    answers = [render_answer(tokenizer, prompt, f"[[{choice}]]")[1] for choice in choices]
    length = begin_alike(answers)
    beginning, tokens = answers[0][:length], [answer[length] for answer in answers]
    for choice, token in zip(choices, tokens, strict=True):
        told = tokenizer.decode([*beginning, token])
        if not told.endswith(f"[[{choice}") or not tokenizer.decode(beginning).endswith("[["):
            raise ModelError(f"'{choice}' after '[[' is no single token of the tokenizer '{tokenizer.name_or_path}'")
    return beginning, tokens


def begin_alike(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all of the sequences begin with alike."""
    columns = enumerate(zip(*sequences, strict=False))
    return next((i for i, column in columns if len(set(column)) > 1), min(map(len, sequences), default=0))
