"""Asking a chat model behind any OpenAI-compatible server: retries for what may pass, clear words for the rest."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, Final

from tutelage.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    import httpx

_PASSING: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})  # statuses that may be gone in a moment
_MOST_BYTES: Final = 16 * 2**20  # of a reply
_LONGEST_WAIT: Final = 60.0  # seconds between two attempts, whatever a server asks for


class JudgeError(RuntimeError):
    """A server that cannot be asked, or what it sends is no answer."""


class UnavailableError(JudgeError):
    """A server that failed as often as it was tried."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a chat model answered."""

    text: str
    thinking: str  # what the server sends apart as the model's reasoning
    cut: bool  # did it run into the limit of tokens?


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why an attempt failed, and how long the server wants to be left alone."""

    reason: str
    wait: float | None = None  # seconds


@dataclass(frozen=True, slots=True)
class ChatServer:
    """Where a chat model is asked.

    `url` is what comes before /chat/completions; `key_variable` the environment variable that holds the key, if there
    is one: the key itself stands in no recipe and no log, also where the server sends it back.
    """

    url: str
    model: str
    key_variable: str | None
    timeout: float  # seconds for one request, from its first byte to the last of the reply
    retries: int

    def ask(
        self, messages: Sequence[Mapping[str, str]], max_tokens: int, temperature: float = 0.0, **more: float
    ) -> Reply:
        """The model's answer.

        Tried again are: a connection that fails or breaks, half a reply, one that does not come in time, and statuses
        that may pass (408, 409, 425, 429 and 5xx of a busy server). Between attempts it waits longer each time, or as
        long as the server says (Retry-After), a minute at most. All else (4xx) would fail again and is not.

        Args:
            more: other numbers that the protocol knows: top_p, seed.

        Raises:
            UnavailableError: the server still fails after the retries.
            JudgeError: the server refuses, or what it sends is no answer.
        """
        how = {"max_tokens": max_tokens, "temperature": temperature, **more}
        body = {"model": self.model, "messages": list(messages), **how}
        for attempt in range(self.retries + 1):
            reply = self._attempt(body)
            if isinstance(reply, Reply):
                return reply
            if attempt < self.retries:
                backoff = min(8.0, 0.25 * 2**attempt) * (0.5 + random.random())
                time.sleep(min(_LONGEST_WAIT, backoff if reply.wait is None else reply.wait))
        raise UnavailableError(
            f"{self.url} failed {self.retries + 1} times ({reply.reason}); is the server up, and the url right?"
        )

    def _attempt(self, body: Mapping[str, Any]) -> Reply | _Failure:
        import httpx

        key = os.environ.get(self.key_variable) if self.key_variable else None
        ends = time.monotonic() + self.timeout
        received = bytearray()
        try:
            with httpx.stream(
                "POST",
                f"{self.url.rstrip('/')}/chat/completions",
                json=body,
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=self.timeout,
                verify=_trusted(),
            ) as response:
                for chunk in response.iter_bytes():  # a server that drips keeps to httpx's timeout for ever
                    received += chunk
                    if len(received) > _MOST_BYTES:
                        raise JudgeError(f"{self.url} sent more than {_MOST_BYTES >> 20} MB, which is no answer")
                    if time.monotonic() > ends:
                        return _Failure(f"no whole reply within {self.timeout:g} s")
        except (httpx.InvalidURL, UnicodeError) as error:
            raise JudgeError(f"{self.url} is no url: {error}") from None
        except httpx.HTTPError as error:
            return _Failure(f"{type(error).__name__}: {error}")
        text = received.decode("utf-8", errors="replace")
        text = text.replace(key, "(the key)") if key else text
        if response.status_code in _PASSING:
            return _Failure(f"status {response.status_code}: {text[:200]}", _retry_after(response))
        return self._answer(response.status_code, text)

    def _answer(self, status: int, text: str) -> Reply | _Failure:
        if status != 200:
            raise JudgeError(f"{self.url} refused with status {status}: {text[:200]}")
        try:
            sent = json.loads(text)
        except (ValueError, RecursionError):
            return _Failure(f"no whole reply: {text[-100:]!r}")
        try:
            choice = sent["choices"][0]
            answer, thinking = choice["message"]["content"], choice["message"].get("reasoning_content")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise JudgeError(f"{self.url} sent no chat completion: {text[:200]}") from None
        if not isinstance(answer, str):
            raise JudgeError(f"{self.url} sent an answer without text: {text[:200]}")
        return Reply(answer, thinking if isinstance(thinking, str) else "", choice.get("finish_reason") == "length")


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that the server wants to be left alone: it says a number of them, or a date."""
    said = response.headers.get("retry-after", "").strip()
    try:
        seconds = float(said) if said[:1].isdigit() else _until(said) if said else None
    except (ValueError, TypeError):
        return None
    return None if seconds is None else max(0.0, seconds)


def _until(date: str) -> float:
    moment = parsedate_to_datetime(date)
    return (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds()


@cache
def _trusted() -> SSLContext:
    """The certificates of this machine, read once: that takes longer than many an answer."""
    import httpx

    return httpx.create_ssl_context()


def require_client(why: str) -> None:
    """Raises MissingExtraError where the HTTP client is not installed."""
    if importlib.util.find_spec("httpx") is None:
        raise MissingExtraError("httpx", "judge", why)


def require_key(variable: str | None, where: str) -> None:
    """Raises ConfigError where the variable that should hold a key is not set: every request would be refused."""
    if variable is not None and not os.environ.get(variable):
        raise ConfigError(f"{where}.key_variable: the environment variable is not set; export it before the run")
