"""One server of lives for all tests that kill runs: what it has loaded, it has loaded once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.pipelines.lives import Server


@pytest.fixture(scope="session")
def lives() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()
