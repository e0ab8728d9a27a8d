"""Steps of an answer, told by its tokens: so a reward model finds them in data where it finds them in samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def step_ends(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], separator: str) -> list[int]:
    """Where each step of an answer ends: the index of its last token, ascending.

    A step ends with the token that completes the separator after some text; what is left after the last one ends with
    the answer's last token, the one that ends the text if there is one. What is blank is no step.
    """
    ends: list[int] = []
    begin = 0
    alone = {token: _decoded(tokenizer, [token]) for token in set(tokens)}
    for place, token in enumerate(tokens):
        # Only a token with the separator's last character can complete it, and decoding the whole step is slow.
        if separator[-1] in alone[token] and any(
            _parts(_decoded(tokenizer, tokens[begin : place + 1]), separator)[:-1]
        ):
            ends.append(place)
            begin = place + 1
    if _decoded(tokenizer, tokens[begin:]).strip():
        ends.append(len(tokens) - 1)
    return ends


def step_texts(
    tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], ends: Sequence[int], separator: str
) -> list[str]:
    """The text of each step, without the separators around it."""
    begins = [0, *(end + 1 for end in ends)][:-1]
    texts = [_decoded(tokenizer, tokens[begin : end + 1]) for begin, end in zip(begins, ends, strict=True)]
    return [separator.join(filter(None, _parts(text, separator))) for text in texts]


def _parts(text: str, separator: str) -> list[str]:
    """What stands between separators; what is blank as nothing."""
    return [part if part.strip() else "" for part in text.split(separator)]


def _decoded(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
