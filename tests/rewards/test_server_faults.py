"""What a server may do wrong, done by a real one (RELIABILITY, 24 and 25): retried within bounds, or told at once."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from types import SimpleNamespace

import pytest

from tutelage.errors import ConfigError
from tutelage.rewards import build_reward, chat_server
from tutelage.rewards.base import Fault, outcomes
from tutelage.rewards.chat_server import ChatServer, JudgeError
from tutelage.rewards.judge import JudgeReward
from tutelage.types import Prompt, Sample

GOOD = json.dumps({"choices": [{"message": {"content": "[[10]]"}}]}).encode()
Handler = BaseHTTPRequestHandler
Misdeed = Callable[[Handler], None]


def reply(status: int, body: bytes = b"busy", length: int | None = None, **headers: str) -> Misdeed:
    """Sends a reply; with a `length` that is not the body's, only half of what it promises."""

    def act(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return act


def reset(handler: Handler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def hang(handler: Handler) -> None:
    time.sleep(1.5)


def unlimited(body: bytes, times: int, pause: float) -> Misdeed:
    """A body whose end is that of the connection."""

    def act(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(times):
                handler.wfile.write(body)
                time.sleep(pause)
        except OSError:  # the client has had enough
            return

    return act


class Server:
    """Does to each request in turn what its script says, and after that answers well."""

    def __init__(self, port: int = 0) -> None:
        self.script: list[Misdeed] = []
        self.asked: list[float] = []
        outer = self

        class Scripted(Handler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked.append(time.monotonic())
                (outer.script.pop(0) if outer.script else reply(200, GOOD))(self)

            def handle(self) -> None:
                with suppress(OSError):  # what a fault leaves of the connection
                    super().handle()

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_: object) -> None:
                pass

        self.http = Quiet(("127.0.0.1", port), Scripted)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def ask(self, retries: int = 2, timeout: float = 0.5, key_variable: str | None = None) -> str:
        server = ChatServer(self.url, "wise", key_variable, timeout, retries)
        return server.ask([{"role": "user", "content": "?"}], 5).text

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it would have waited between attempts."""
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        time.sleep(min(seconds, 0.02))

    monkeypatch.setattr(chat_server, "time", SimpleNamespace(sleep=wait, monotonic=time.monotonic))
    return waited


PASSING: dict[str, tuple[Misdeed, str]] = {
    "500": (reply(500), "status 500: busy"),
    "502": (reply(502), "status 502"),
    "503": (reply(503), "status 503"),
    "529": (reply(529), "status 529"),
    "408": (reply(408), "status 408"),
    "429": (reply(429, b"slow down"), "status 429: slow down"),
    "reset": (reset, "Error: "),
    "half a body": (reply(200, GOOD[:20], len(GOOD)), "RemoteProtocolError"),
    "half a body without its length": (unlimited(GOOD[:20], 1, 0.0), "no whole reply: "),
    "not JSON": (reply(200, b"<html>proxy</html>"), "no whole reply: '<html>proxy"),
    "hang": (hang, "ReadTimeout"),
    "drip": (unlimited(b" ", 40, 0.05), "no whole reply within 0.5 s"),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_may_pass_is_tried_again_within_bounds(server: Server, name: str) -> None:
    fault, reason = PASSING[name]
    server.script = [fault]
    assert server.ask() == "[[10]]"
    assert len(server.asked) == 2
    server.script = list(repeat(fault, 9))
    begun = time.monotonic()
    with pytest.raises(JudgeError, match=r"failed 2 times \(.*is the server up") as failed:
        server.ask(retries=1)
    assert reason in str(failed.value)
    assert len(server.asked) == 4
    assert time.monotonic() - begun < 2 * 2 * 0.5 + 1.0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422, 301, 307])
def test_what_would_fail_again_is_asked_once(server: Server, status: int) -> None:
    server.script = list(repeat(reply(status, b"no such model", Location="http://127.0.0.1:9/"), 9))
    with pytest.raises(JudgeError, match=f"refused with status {status}: no such model"):
        server.ask(retries=5)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [
        ("7", 7.0, 7.0),
        ("0", 0.0, 0.0),
        ("1e9", 60.0, 60.0),  # an hour that a server asks for is not given
        ("Fri, 01 Jan 2100 00:00:00 GMT", 60.0, 60.0),
        ("Fri, 01 Jan 2010 00:00:00 GMT", 0.0, 0.0),
        ("soon", 0.125, 0.375),  # nonsense: as if it had not said anything
        ("-5", 0.125, 0.375),
    ],
)
def test_it_waits_as_long_as_the_server_says(
    server: Server, waits: list[float], said: str, least: float, most: float
) -> None:
    server.script = [reply(429, Retry_After=said)]
    assert server.ask() == "[[10]]"
    assert least <= waits[-1] <= most


def test_it_waits_longer_each_time(server: Server, waits: list[float]) -> None:
    server.script = list(repeat(reply(503), 9))
    with pytest.raises(JudgeError):
        server.ask(retries=7)
    steps = [0.25 * 2**attempt for attempt in range(5)] + [8.0, 8.0]
    assert all(0.5 * step <= wait <= 1.5 * step for step, wait in zip(steps, waits, strict=True))


def test_an_endless_reply_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_server, "_MOST_BYTES", 2**20)
    server.script = [unlimited(b"x" * 2**16, 1000, 0.0)]
    with pytest.raises(JudgeError, match="sent more than 1 MB"):
        server.ask(timeout=5.0)
    assert len(server.asked) == 1


def test_a_server_that_comes_back_is_asked_on() -> None:
    first = Server()
    assert first.ask() == "[[10]]"
    port = first.http.server_port
    first.close()
    threading.Timer(0.05, lambda: again.append(Server(port))).start()
    again: list[Server] = []
    try:
        assert ChatServer(first.url, "wise", None, 0.5, 20).ask([{"role": "user", "content": "?"}], 5).text == "[[10]]"
    finally:
        again[0].close()


@pytest.mark.parametrize("status", [401, 500])
def test_a_key_that_a_server_sends_back_is_not_told(
    server: Server, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-planted-secret")
    server.script = list(repeat(reply(status, b"Incorrect API key provided: sk-planted-secret"), 9))
    with pytest.raises(JudgeError) as refused:
        server.ask(key_variable="JUDGE_KEY")
    assert "sk-planted-secret" not in str(refused.value)
    assert "(the key)" in str(refused.value)


def test_each_failure_is_the_samples_own(server: Server) -> None:
    server.script = [reply(200, GOOD), reply(404, b"gone"), reply(200, GOOD)]
    samples = [Sample("p", i, [1], [0.0], f"answer {i}", "stop", 0) for i in range(3)]
    judge = JudgeReward(url=server.url, model="wise", parallel=1, retries=0)
    first, second, third = outcomes(judge, Prompt("p", text="?"), samples)
    assert (first, third) == (1.0, 1.0)
    assert isinstance(second, Fault)
    assert "status 404: gone" in second.reason


@pytest.mark.parametrize(
    "url",
    ["https://me:sk-planted@host/v1", "https://sk-planted@host/v1", "https://host/v1?key=sk-planted", "host/v1",
     "ftp://host/v1", "https:///v1", "https://host/v1#sk-planted"],
)  # fmt: skip
def test_a_url_with_a_secret_in_it_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match=r"rewards\[0\]\.url: .*key_variable") as refused:
        build_reward({"type": "judge", "url": url, "model": "m"}, "rewards[0]")
    assert "sk-planted" not in str(refused.value)


def test_a_key_in_the_place_of_its_variables_name_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"type": "judge", "url": "http://127.0.0.1:9/v1", "model": "m"}
    with pytest.raises(ConfigError, match=r"key_variable: .*not the key itself") as refused:
        build_reward({**table, "key_variable": "sk-planted"}, "rewards[0]")
    assert "sk-planted" not in str(refused.value)
    with pytest.raises(ConfigError, match=r"key_variable: the environment variable is not set; export it") as refused:
        build_reward({**table, "key_variable": "AKIAPLANTED"}, "rewards[0]")  # a key that looks like a name
    assert "AKIAPLANTED" not in str(refused.value)
    monkeypatch.setenv("JUDGE_KEY", "x")
    build_reward({**table, "key_variable": "JUDGE_KEY"}, "rewards[0]")
