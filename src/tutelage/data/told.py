"""Questions told by a program, as texts to read or as conversations to imitate."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.data.chat import Conversation
from tutelage.types import Message


def texts_of(name: str, told: Sequence[str], per_text: int) -> list[Conversation]:
    """So many in a text, one below the other; the last text may have fewer. `name` is what their ids begin with."""
    texts = ["\n".join(told[start : start + per_text]) for start in range(0, len(told), per_text)]
    return [Conversation(f"{name}:{number}", prompt="", completion=text) for number, text in enumerate(texts, 1)]


def asked_and_answered(name: str, asked: Sequence[str], told: Sequence[str]) -> list[Conversation]:
    """Each one as a conversation: the user asks, the assistant tells."""
    return [
        Conversation(f"{name}:{number}", (Message("user", ask), Message("assistant", answer)))
        for number, (ask, answer) in enumerate(zip(asked, told, strict=True), 1)
    ]
