"""No attack gets out of any sandbox that this machine has, and nothing of one is left (RELIABILITY, 31 to 34, 36)."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.sandbox.attacks import ATTACKS, BEGINNING, CALLS, QUICK, Attack
from tests.sandbox.boxes import box, every
from tutelage.sandbox import Limits, Program


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """What the host has that nobody inside should reach."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("open")
        folder.chmod(0o777)
        secret = secrets.token_hex(16)
        (folder / "secret").write_text(secret)
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        abstract, named = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2))
        abstract.bind(f"\0{secret}")
        named.bind(str(folder / "socket"))
        for end in (abstract, named):
            end.listen()
        decoy = stack.enter_context(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
        stack.callback(decoy.kill)
        held = stack.enter_context((folder / "secret").open("rb"))
        os.set_inheritable(held.fileno(), True)
        os.environ["SECRET_TOKEN"] = secret
        stack.callback(os.environ.pop, "SECRET_TOKEN")
        told = {
            "port": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "abstract": secret,
            "folder": str(folder),
            "secret": secret,
            "file": __file__,
            "home": str(Path.home()),
            "at_home": sorted(set(os.listdir(Path.home())) - {".pyenv"}),
            "pid": os.getpid(),
            "decoy": decoy.pid,
            "calls": CALLS,
        }
        yield {"told": told, "udp": udp, "decoy": decoy, "folder": folder}


@every
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_no_way_out(attack: Attack, back_end: str, world) -> None:
    sandbox = box(back_end)
    limits = replace(
        attack.limits, disk=attack.limits.disk + secrets.randbelow(1 << 20)
    )  # its processes are known by it
    began = time.monotonic()
    program = Program(BEGINNING + attack.source, json.dumps(world["told"]).encode() + b"\n")
    finished = sandbox.run(program, limits)
    took = time.monotonic() - began
    assert b"ESCAPED" not in finished.stdout, finished.stdout[:300]
    assert b"SyntaxError" not in finished.stderr
    if back_end != "wasm":  # which has no processes, threads or files, so that many an attack fails earlier
        assert finished.exit_code in attack.ends or finished.stopped in attack.ends, finished
    assert took < attack.limits.seconds + 15.0
    assert max(len(finished.stdout), len(finished.stderr)) <= attack.limits.output
    assert all_gone(limits), "a process of the sandbox is left"
    assert world["decoy"].poll() is None, "a process of the host was killed"
    assert sorted(path.name for path in world["folder"].iterdir()) == ["secret", "socket"]
    with pytest.raises(BlockingIOError):
        world["udp"].recv(16)


@every
def test_a_run_leaves_nothing_to_the_next(back_end: str) -> None:
    sandbox = box(back_end)
    plant = """
import os
for path in ("/tmp/left", "/job/left", "/dev/shm/left", "left"):
    try:
        open(path, "w").write("left")
    except OSError:
        pass
os.environ["LEFT"] = "left"
"""
    look = """
import os
found = [path for path in ("/tmp/left", "/job/left", "/dev/shm/left", "left") if os.path.exists(path)]
print(found, "LEFT" in os.environ)
"""
    assert sandbox.run(Program(plant), QUICK).exit_code == 0
    assert sandbox.run(Program(look), QUICK).stdout == b"[] False\n"


def all_gone(limits: Limits) -> bool:
    """Are its processes dead, or within moments? The kernel ends a namespace after its first process."""
    until = time.monotonic() + 5.0
    while survivors(limits) and time.monotonic() < until:
        time.sleep(0.05)
    return not survivors(limits)


def survivors(limits: Limits) -> list[int]:
    """The processes on this machine that run a program under these limits."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = place.read_bytes()
        except OSError:
            continue
        if f"FSIZE={limits.disk},".encode() in line:
            found.append(int(place.parent.name))
    return found
