"""Chat rendering: messages into token ids through the tokenizer's own template, and who wrote which.

Three promises:

- What the model wrote is what follows the generation prompt, up to and with the token that ends the turn. It
  is encoded apart from what precedes it, for so it came to be: the sampler saw the prompt's tokens, no more.
  Supervised and reinforcement learning then see the same tokens, even where a tokenizer would merge across.
- A control token (`<|im_end|>`, ...) in somebody's text stays text. Before the template sees them, such words
  become private characters; every control token in the rendered text is then the template's own.
- A template may trim, drop or rewrite what it is given: no message is looked for in the rendered text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import jinja2

from tutelage.errors import DataError, ModelError
from tutelage.types import Message, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LossOn = Literal["assistant", "last-assistant", "all"]


@dataclass(frozen=True, slots=True)
class Conversation:
    """What the model should have written. Either `messages`, or a plain `prompt` with its `completion`.

    An empty prompt makes the completion a text of its own. `learned` chooses the messages to learn from, by their
    places among `messages`, all of them the assistant's; None leaves the choice to `loss_on`.
    """

    id: str
    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    completion: str | None = None
    learned: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        plain = self.prompt is not None and self.completion is not None
        if bool(self.messages) == plain or (self.prompt is None) != (self.completion is None):
            raise ValueError(f"conversation {self.id!r}: give either messages, or prompt and completion")
        own = {i for i, message in enumerate(self.messages) if message.role == "assistant"}
        if self.learned is not None and not (self.learned and own.issuperset(self.learned)):
            raise ValueError(f"conversation {self.id!r}: learned must name one or more of the assistant's messages")


@dataclass(frozen=True, slots=True)
class Rendered:
    """Token ids, and for each whether to learn from it."""

    tokens: list[int]
    mask: list[bool]


def render_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> list[int]:
    """The tokens a sampler continues: messages and the generation prompt, or bos and a plain text.

    Raises:
        ModelError: the prompt has messages and the tokenizer has no chat template.
        DataError: the template refuses the messages.
    """
    if prompt.text is not None:
        return encode_plain(tokenizer, prompt.text)
    chat = _Chat(tokenizer, prompt.messages, f"prompt '{prompt.id}'")
    text = chat.render(len(prompt.messages), generate=True)
    return chat.encode(chat.pieces(text)).tokens


def has_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Can it render conversations?"""
    try:
        return bool(tokenizer.get_chat_template())
    except ValueError:
        return False


def render_conversation(
    tokenizer: PreTrainedTokenizerBase, conversation: Conversation, loss_on: LossOn = "assistant"
) -> Rendered:
    """The tokens of a conversation, and which of them the assistant wrote.

    Args:
        tokenizer: the model's own.
        conversation: messages, or a plain prompt and completion (which ends with the tokenizer's eos).
        loss_on: learn from every turn of the assistant (or from those that the conversation chooses), from the last
            one only, or from every token.

    Raises:
        ModelError: there are messages but no chat template, or the tokenizer has no token that ends a text.
        DataError: the template refuses the messages, what the assistant wrote cannot be told, or the conversation
            chooses its turns and `loss_on` would have others.
    """
    if conversation.prompt is not None and conversation.completion is not None:
        return _render_plain(tokenizer, conversation.prompt, conversation.completion, loss_on)
    chat = _Chat(tokenizer, conversation.messages, f"conversation '{conversation.id}'")
    turns = [i for i, message in enumerate(conversation.messages) if message.role == "assistant"]
    if not turns:
        raise DataError(f"{chat.where}: has no turn of the assistant to learn from")
    if conversation.learned is not None and loss_on != "assistant":
        raise DataError(
            f"{chat.where}: its turns are marked (`weight` or `train`) to be learned from or not, and loss_on = "
            f"'{loss_on}' says otherwise; set loss_on = 'assistant', or remove the marks"
        )
    learned = conversation.learned or (turns[-1:] if loss_on == "last-assistant" else turns)
    pieces = chat.pieces(chat.render(len(conversation.messages)))
    told = {turn for _, turn in pieces}
    for turn in learned:
        if turn not in told:
            raise DataError(
                f"{chat.where}: the chat template writes message {turn} (the assistant's) in another way "
                "than it asks the model for it, so what the model wrote is undefined; learn from the last "
                "turn only (loss_on = 'last-assistant'), give this one a weight of 0 in the data, begin with the "
                "user, or give prompt and completion"
            )
    rendered = chat.encode(pieces, learned)
    return Rendered(rendered.tokens, [True] * len(rendered.tokens)) if loss_on == "all" else rendered


def render_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of a text of its own, between one that begins it and the tokenizer's eos: all of it has a predictor.

    It begins with bos where the tokenizer writes one, else with eos, which so stands between a text and the next.
    """
    end = _end_of_text(tokenizer)
    tokens = encode_plain(tokenizer, text)
    return [*([] if tokens[0] == tokenizer.bos_token_id else [end]), *tokens, end]


def _render_plain(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str, loss_on: LossOn) -> Rendered:
    end = _end_of_text(tokenizer)
    if not prompt:
        text = [*encode_plain(tokenizer, completion), end]
        return Rendered(text, [True] * len(text))
    before = encode_plain(tokenizer, prompt)
    written = [*encode_plain(tokenizer, completion, first=False), end]
    return Rendered(before + written, [loss_on == "all"] * len(before) + [True] * len(written))


def _end_of_text(tokenizer: PreTrainedTokenizerBase) -> int:
    if not isinstance(tokenizer.eos_token_id, int):
        raise ModelError("the tokenizer has no end-of-text token, so a completion could not end")
    return tokenizer.eos_token_id


class _Chat:
    """One conversation before a template, with the control tokens in its contents hidden from it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], where: str) -> None:
        try:
            template = tokenizer.get_chat_template()
        except ValueError:
            raise ModelError(
                f"{where}: the tokenizer '{tokenizer.name_or_path}' has no chat template; "
                "use an instruct model, or ask in plain text (plain = true)"
            ) from None
        self.tokenizer = tokenizer
        self.where = where
        self.control = _control_tokens(tokenizer, template)
        self.hidden = _private_characters(self.control, "".join(message.content for message in messages))
        self.turns = [i for i, message in enumerate(messages) if message.role == "assistant"]
        self.messages = [{"role": m.role, "content": self._hide(m.content)} for m in messages]

    def _hide(self, content: str) -> str:
        return self.control.sub(lambda match: self.hidden[match[0]], content)

    def render(self, count: int, generate: bool = False) -> str:
        """The template's text of the first `count` messages, with the generation prompt if wanted."""
        messages = self.messages[:count]
        try:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate))
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise DataError(f"{self.where}: the chat template refuses its messages: {error}") from None

    def pieces(self, text: str) -> list[tuple[str, int | None]]:
        """`text` cut at the assistant's turns: each piece, with the index of the message if it is one."""
        pieces: list[tuple[str, int | None]] = []
        done = 0
        for turn in self.turns:
            span = self._span(text, turn) if turn > 0 else None
            if span is not None:
                pieces += [(text[done : span[0]], None), (text[span[0] : span[1]], turn)]
                done = span[1]
        return [*pieces, (text[done:], None)]

    def _span(self, text: str, turn: int) -> tuple[int, int] | None:
        """Where in `text` the assistant's turn is: after the generation prompt, up to and with its end token.

        None where the template writes the turn in another way than it asks for it, or never ends it.
        """
        asked, answered = self.render(turn, generate=True), self.render(turn + 1)
        if not (text.startswith(asked) and answered.startswith(asked)):
            return None
        ends = self.control.findall(answered, len(asked))
        place = text.find(ends[-1], len(asked)) if ends else -1
        return None if place < 0 else (len(asked), place + len(ends[-1]))

    def encode(self, pieces: Sequence[tuple[str, int | None]], learned: Sequence[int] = ()) -> Rendered:
        """Each piece's token ids, end to end, and a mask of the learned turns."""
        words = {mark: word for word, mark in self.hidden.items()}
        tokens: list[int] = []
        mask: list[bool] = []
        for text, turn in pieces:
            tokens += _encode(self.tokenizer, text, words, first=not tokens)
            mask += [turn in learned] * (len(tokens) - len(mask))
        return Rendered(tokens, mask)


@lru_cache(maxsize=8)
def _control_tokens(tokenizer: PreTrainedTokenizerBase, template: str | None) -> re.Pattern[str]:
    """Matches the special tokens, and those others that the template writes around any message."""
    written = ""
    if template is not None:
        probe = [{"role": "user", "content": "x"}]
        written = str(tokenizer.apply_chat_template(probe, tokenize=False, add_generation_prompt=True))
    added = tokenizer.added_tokens_decoder.values()
    words = [token.content for token in added if token.special or token.content in written]
    words = sorted((word for word in words if not word.isspace()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, words)) or "(?!)")


def _private_characters(control: re.Pattern[str], text: str) -> dict[str, str]:
    """For each control token that stands in `text`, a private character that does not."""
    free = (mark for mark in map(chr, range(0x100000, 0x10FFFE)) if mark not in text)
    return dict(zip(dict.fromkeys(control.findall(text)), free, strict=False))


def encode_plain(tokenizer: PreTrainedTokenizerBase, text: str, first: bool = True) -> list[int]:
    """Token ids of text that knows no control tokens. What begins a text begins with bos, if there is one."""
    control = _control_tokens(tokenizer, None)
    hidden = _private_characters(control, text)
    text = control.sub(lambda match: hidden[match[0]], text)
    return _encode(tokenizer, text, {mark: word for word, mark in hidden.items()}, first, bos=first)


def _encode(
    tokenizer: PreTrainedTokenizerBase, text: str, words: dict[str, str], first: bool, bos: bool = False
) -> list[int]:
    """Encodes `text`; each private character of `words` becomes the tokens of its word as text."""
    ids: list[int] = []
    for piece in re.split(f"([{''.join(words)}])", text) if words else [text]:
        if piece in words:
            ids += _as_text(tokenizer, words[piece])
        elif piece or bos:
            ids += _piece(tokenizer, piece, first, bos=bos)
        first, bos = False, False
    return ids


def _piece(
    tokenizer: PreTrainedTokenizerBase, text: str, first: bool, bos: bool = False, split: bool = False
) -> list[int]:
    """Encodes a piece. Only the first may get the blank that some tokenizers begin a text with."""
    if first or not _adds_blank(tokenizer):
        return tokenizer.encode(text, add_special_tokens=bos, split_special_tokens=split)
    before = tokenizer.encode("\n", add_special_tokens=False)
    return tokenizer.encode("\n" + text, add_special_tokens=False, split_special_tokens=split)[len(before) :]


def _as_text(tokenizer: PreTrainedTokenizerBase, word: str) -> list[int]:
    """Encodes a control token's name without giving its id: whole if the tokenizer can, else in two."""
    ids = _piece(tokenizer, word, first=False, split=True)
    if tokenizer.convert_tokens_to_ids(word) not in ids:
        return ids
    return _piece(tokenizer, word[0], first=False) + _piece(tokenizer, word[1:], first=False)


@lru_cache(maxsize=8)
def _adds_blank(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer begins a text with a blank, as SentencePiece does."""
    alone, after, line = (tokenizer.encode(text, add_special_tokens=False) for text in ("a", "\na", "\n"))
    return after[len(line) :] != alone
