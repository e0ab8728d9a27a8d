"""The live page's server: this machine's own browser, reading only; and what it tells as a run goes on."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.report.factory import append, write_json, write_run
from tests.report.test_build import EVIL, Page
from tutelage.report import server
from tutelage.report.server import Watched, app_of

PORT = 8123


@cache
def server_of(folder: Path) -> Starlette:
    """One for all requests to a run: it draws its page once."""
    return app_of(folder, PORT, every=0.02)


def client(folder: Path, host: str = f"127.0.0.1:{PORT}") -> TestClient:
    return TestClient(server_of(folder), base_url=f"http://{host}")


def events(text: str) -> list[tuple[str, Any]]:
    blocks = [block.split("\n") for block in text.strip().split("\n\n") if block.startswith("event: ")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


@pytest.fixture(scope="module")
def under_way(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), questions=3, steps=2, until="learn")


def test_the_page_may_ask_its_own_server_and_nobody_else(under_way: Path) -> None:
    answer = client(under_way).get("/")
    assert answer.status_code == 200
    page = Page(answer.text)
    (policy,) = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert "connect-src 'self'" in policy
    assert policy.startswith("default-src 'none'")
    assert any(attributes.get("id") == "live" for _, attributes in page.elements)
    for name, value in (
        ("content-security-policy", "frame-ancestors 'none'"), ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "same-origin"), ("cache-control", "no-store"),
    ):  # fmt: skip
        assert answer.headers[name] == value
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/events"])
@pytest.mark.parametrize("host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1:1", "localhost", "127.0.0.1"])
def test_another_host_is_refused(under_way: Path, host: str, path: str) -> None:
    """A name that was rebound to 127.0.0.1 still says its own name."""
    assert client(under_way).get(path, headers={"host": host}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://evil.example"}, {"origin": "null"}, {"origin": f"https://127.0.0.1:{PORT}"},
     {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}],
)  # fmt: skip
def test_another_sites_page_is_refused(under_way: Path, headers: dict[str, str]) -> None:
    assert client(under_way).get("/", headers=headers).status_code == 403
    own = {"origin": f"http://127.0.0.1:{PORT}", "sec-fetch-site": "same-origin"}
    assert client(under_way).get("/", headers=own).status_code == 200
    assert client(under_way, f"localhost:{PORT}").get("/").status_code == 200


def test_nothing_but_reading(under_way: Path) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client(under_way).request(method, "/").status_code == 405
    for path in ("/recipe.json", "/../recipe.json", "/stages/02-learn/result.json", "/docs"):
        assert client(under_way).get(path).status_code == 404


def test_a_stream_tells_what_is_new_and_ends_with_the_run(tmp_path: Path) -> None:
    write_run(tmp_path, questions=3, steps=2, until="before")
    append(tmp_path / "metrics.jsonl", {"stage": "learn", "step": 1, "reward": 0.25, "kl": None})

    def goes_on() -> None:
        append(tmp_path / "metrics.jsonl", {"stage": "learn", "step": 2, "reward": 0.5, "kl": 0.1})

    def ends() -> None:
        for stage in ("02-learn", "03-after"):
            write_json(tmp_path / "stages" / stage / "result.json", {})

    timers = [Timer(0.3, goes_on), Timer(0.8, ends)]
    for timer in timers:
        timer.start()
    told = events(client(tmp_path).get("/events").text)
    names = [name for name, _ in told]
    assert names[-1] == "end"
    assert "stage" in names
    first, second = (data for name, data in told if name == "run" and data["stage"])
    assert first["stage"] == {"name": "learn", "type": "rl", "steps": 30, "place": 2, "of": 3}
    assert (first["step"], first["curves"]) == (1, {"reward": [0.25]})
    assert (second["step"], second["curves"]) == (2, {"reward": [0.25, 0.5], "kl": [0.1]})


def test_what_a_model_wrote_stays_within_its_event(tmp_path: Path) -> None:
    write_run(tmp_path, questions=0, steps=0)
    text = f"{EVIL}\n\nevent: end\ndata: {{}}\n\n"
    append(tmp_path / "samples.jsonl", {"stage": "learn", "step": 1, "prompt": text, "text": text, "reward": None})
    told = events(client(tmp_path).get("/events").text)
    assert [name for name, _ in told] == ["run", "end"]
    assert told[0][1]["sample"] == {"prompt": text, "text": text, "reward": None}


def test_the_page_is_drawn_seldom_and_when_a_stage_has_ended(under_way: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    clock, used = [1000.0], [0.0]

    def page_of(run: object, live: bool) -> str:
        used[0] += 2.0  # seconds of the processor
        drawn.append(1)
        return f"page {len(drawn)}"

    monkeypatch.setattr(server, "page_of", page_of)
    monkeypatch.setattr(server, "monotonic", lambda: clock[0])
    monkeypatch.setattr(server, "process_time", lambda: used[0])
    watched = Watched(under_way)
    assert [watched.page(), watched.page()] == ["page 1", "page 1"]
    clock[0] += 199.0
    assert watched.page() == "page 1"
    clock[0] += 2.0
    assert watched.page() == "page 2"  # 2 s of drawing in 200
    write_json(under_way / "stages/03-after/result.json", {})
    assert watched.page() == "page 3"
