"""An answer to a prompt as the sampler would have written it: the tokens of the one, then those of the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tutelage.data.chat import Conversation, render_conversation, render_prompt
from tutelage.errors import DataError
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
