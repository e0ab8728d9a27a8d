"""`tutelage watch`: the report of a run that goes on, on this machine's own address, with what is new as it comes.

Nothing here changes anything: there is no request but GET. A page from elsewhere can neither read it nor pretend to be
it: the Host must be this machine's own (DNS rebinding), and what comes with a foreign Origin is refused.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from time import monotonic, process_time
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tutelage.report.build import page_of
from tutelage.report.follow import Follower, Seen, warning
from tutelage.report.read import Row, read_run

LOOPBACK = "127.0.0.1"
_EVERY = 1.0  # seconds between two looks at the files
_SHARE = 0.01  # of the time, at most, that goes into drawing the page anew
_SHOWN = ("reward", "score", "loss", "accuracy", "bits_per_byte", "entropy", "kl", "length", "clipped",
          "tokens_per_second")  # fmt: skip
_POINTS = 60  # of a small curve


class OwnHostOnly:
    """Refuses what does not name this very server, or comes from another site's page."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._origins = frozenset(f"http://{host}" for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Request(scope).headers
        host, origin = headers.get("host", ""), headers.get("origin")
        site = headers.get("sec-fetch-site", "none")
        if host not in self._hosts or (origin is not None and origin not in self._origins):
            await PlainTextResponse("refused: not this server's own address\n", 403)(scope, receive, send)
        elif site not in ("none", "same-origin"):
            await PlainTextResponse("refused: asked for by another site's page\n", 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class Watched:
    """A run's page, drawn anew when a stage has ended, and else so seldom that it costs a hundredth of the time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._page = ""
        self._finished = -1
        self._until = 0.0

    def page(self) -> str:
        """The page as of now, or of a moment ago."""
        finished = sum(1 for _ in self._folder.glob("stages/*/result.json"))
        if finished != self._finished or monotonic() >= self._until:
            began, self._finished = process_time(), finished
            self._page = page_of(read_run(self._folder), live=True)
            self._until = monotonic() + (process_time() - began) / _SHARE
        return self._page


def app_of(folder: Path, port: int, every: float = _EVERY) -> Starlette:
    """The server of one run.

    Args:
        port: where it will listen: a part of the only hosts that it answers to.
        every: seconds between two looks at the run's files.
    """
    watched = Watched(folder)

    async def page(_: Request) -> Response:
        return HTMLResponse(await anyio.to_thread.run_sync(watched.page), headers=_HEADERS)

    async def events(_: Request) -> Response:
        return StreamingResponse(_stream(folder, every), media_type="text/event-stream", headers=_HEADERS)

    hosts = [f"{name}:{port}" for name in (LOOPBACK, "localhost")]
    return Starlette(
        routes=[Route("/", page), Route("/events", events)], middleware=[Middleware(OwnHostOnly, hosts=hosts)]
    )


_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",  # the page has the rest of it
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


async def _stream(folder: Path, every: float) -> AsyncIterator[str]:
    """Server-sent events: `run` whenever something is new, `stage` when one is finished, `end` at the end."""
    follower = Follower(folder)
    finished: frozenset[str] | None = None
    while True:
        if follower.look() or finished is None:
            yield _event("run", told(follower.seen))
            if finished is not None and follower.seen.finished != finished:
                yield _event("stage", sorted(follower.seen.finished))
            finished = follower.seen.finished
        else:
            yield ": still here\n\n"  # or a browser that has left would never be noticed
        if follower.seen.done:
            yield _event("end", {})
            return
        await anyio.sleep(every)


def told(seen: Seen) -> Mapping[str, Any]:
    """What the page shows of a run under way."""
    stage, rows = seen.current, seen.rows
    names = [name for name in _SHOWN if any(isinstance(row.get(name), (int, float)) for row in rows[-1:])]
    return {
        "name": seen.name,
        "stage": None if stage is None else {**stage, "place": seen.place, "of": len(seen.stages)},
        "step": rows[-1]["step"] if rows else 0,
        "curves": {name: _curve(rows, name) for name in names},
        "sample": _sample(seen.samples[-1]) if seen.samples else None,
        "warning": warning(seen.events[-1]) if seen.events else "",
        "silent": round(seen.silent_for()),
    }


def _curve(rows: Sequence[Row], name: str) -> list[float]:
    return [row[name] for row in rows[-_POINTS:] if isinstance(row.get(name), (int, float))]


def _sample(row: Row) -> Mapping[str, Any]:
    return {"prompt": str(row.get("prompt"))[:300], "text": str(row.get("text"))[:600], "reward": row.get("reward")}


def _event(name: str, value: object) -> str:
    return f"event: {name}\ndata: {json.dumps(value, ensure_ascii=False)}\n\n"
