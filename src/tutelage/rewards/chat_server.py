"""Asking a chat model behind any OpenAI-compatible server: retries for what may pass, clear words for the rest."""

from __future__ import annotations

import importlib.util
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from ssl import SSLContext
from typing import Any

from tutelage.errors import MissingExtraError

_PASSING = frozenset({408, 409, 429, 500, 502, 503, 504})  # statuses that may be gone in a moment


class JudgeError(RuntimeError):
    """A server that cannot be asked, or what it sends is no answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a chat model answered."""

    text: str
    thinking: str  # what the server sends apart as the model's reasoning
    cut: bool  # did it run into the limit of tokens?


@dataclass(frozen=True, slots=True)
class ChatServer:
    """Where a chat model is asked.

    `url` is what comes before /chat/completions; `key_variable` the environment variable that holds the key, if there
    is one: the key itself stands in no recipe and no log.
    """

    url: str
    model: str
    key_variable: str | None
    timeout: float  # seconds for one request
    retries: int

    def ask(
        self, messages: Sequence[Mapping[str, str]], max_tokens: int, temperature: float = 0.0, **more: float
    ) -> Reply:
        """The model's answer.

        Args:
            more: other numbers that the protocol knows: top_p, seed.

        Raises:
            JudgeError: the server refuses, or still fails after the retries; or what it sends is no answer.
        """
        import httpx

        how = {"max_tokens": max_tokens, "temperature": temperature, **more}
        body = {"model": self.model, "messages": list(messages), **how}
        for attempt in range(self.retries + 1):
            try:
                response = httpx.post(
                    f"{self.url.rstrip('/')}/chat/completions",
                    json=body,
                    headers=self._headers(),
                    timeout=self.timeout,
                    verify=_trusted(),
                )
                if response.status_code not in _PASSING:
                    return self._answer(response.status_code, response.text, response)
                failure = f"status {response.status_code}"
            except httpx.HTTPError as error:
                failure = f"{type(error).__name__}: {error}"
            if attempt < self.retries:
                time.sleep(min(8.0, 0.25 * 2**attempt) * (0.5 + random.random()))
        raise JudgeError(
            f"{self.url} failed {self.retries + 1} times ({failure}); is the server up, and the url right?"
        )

    def _headers(self) -> dict[str, str]:
        key = os.environ.get(self.key_variable) if self.key_variable else None
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _answer(self, status: int, text: str, response: Any) -> Reply:
        if status != 200:
            raise JudgeError(f"{self.url} refused with status {status}: {text[:200]}")
        try:
            choice = response.json()["choices"][0]
            answer, thinking = choice["message"]["content"], choice["message"].get("reasoning_content")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise JudgeError(f"{self.url} sent no chat completion: {text[:200]}") from None
        if not isinstance(answer, str):
            raise JudgeError(f"{self.url} sent an answer without text: {text[:200]}")
        return Reply(answer, thinking if isinstance(thinking, str) else "", choice.get("finish_reason") == "length")


@cache
def _trusted() -> SSLContext:
    """The certificates of this machine, read once: that takes longer than many an answer."""
    import httpx

    return httpx.create_ssl_context()


def require_client(why: str) -> None:
    """Raises MissingExtraError where the HTTP client is not installed."""
    if importlib.util.find_spec("httpx") is None:
        raise MissingExtraError("httpx", "judge", why)
