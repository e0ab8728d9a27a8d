"""What a sandbox is asked before it is trusted: a program that tries to get out, and says what it could do."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tutelage.errors import SandboxError
from tutelage.sandbox.base import Limits, Program, Sandbox
from tutelage.sandbox.layout import ENVIRONMENT

_LIMITS: Final = Limits(seconds=20.0, memory=256 << 20, processes=16, disk=4 << 20, output=1 << 16)
_PROBE: Final = Path(__file__).parent / "probe.py"


@dataclass(frozen=True, slots=True)
class _Bait:
    """What the host lays out: a port, an abstract socket, a secret file in an open folder, an inherited descriptor."""

    port: int
    abstract: str
    folder: Path
    descriptor: int


def weaknesses(sandbox: Sandbox) -> list[str]:
    """What does not hold in a sandbox, in words; none if all does.

    Raises:
        SandboxError: it does not run at all.
    """
    with _baits() as bait:
        secret = (bait.folder / "secret").read_text()
        told = {
            "port": bait.port,
            "abstract": bait.abstract,
            "folder": str(bait.folder),
            "secret": secret,
            "known": [*ENVIRONMENT, "PYTHONTZPATH", "LC_CTYPE", "PWD"],
            "pid": os.getpid(),
            "memory": _LIMITS.memory,
            "processes": _LIMITS.processes,
            "disk": _LIMITS.disk,
        }
        finished = sandbox.run(Program(_PROBE.read_text(), json.dumps(told).encode()), _LIMITS)
        try:
            found = json.loads(finished.stdout)
        except ValueError:
            said = finished.stderr.decode(errors="replace").strip()[-300:]
            raise SandboxError(f"its self-test ended with {finished.exit_code}, {finished.stopped}: {said}") from None
    return sorted(what for what, possible in found.items() if possible)


@contextmanager
def _baits() -> Iterator[_Bait]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tutelage-self-test-")))
        (folder / "secret").write_text(secrets.token_hex(8))
        (folder / "secret").chmod(0o644)
        folder.chmod(0o777)
        port = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        name = f"tutelage-{secrets.token_hex(8)}"
        if sys.platform == "linux":  # nobody else has abstract sockets
            abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
            abstract.bind(f"\0{name}")
            abstract.listen()
        descriptor = os.dup(port.fileno())
        stack.callback(os.close, descriptor)
        os.set_inheritable(descriptor, True)
        yield _Bait(port.getsockname()[1], name, folder, descriptor)
