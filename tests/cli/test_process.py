"""The process's own settings: made once, with the arguments kept; and an orderly end when it is asked to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SHOW = (
    "import json, os, sys\n"
    "from tutelage.cli.process import restart_with_huge_pages\n"
    "print('begun', file=sys.stderr, flush=True)\n"
    "restart_with_huge_pages()\n"
    "print(json.dumps([os.getpid(), sys.argv, sys.flags.utf8_mode, os.environ['GLIBC_TUNABLES']]))\n"
)
PYTHON = [sys.executable, "-X", "utf8"]


def shown(command: list[str], cwd: Path, tunables: str | None = None) -> tuple[list[object], int, int]:
    """What the program printed, how often it began, and its process's number."""
    env = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    if tunables is not None:
        env["GLIBC_TUNABLES"] = tunables
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env=env
    ) as process:
        output, complaint = process.communicate(timeout=60)
    assert process.returncode == 0, complaint
    return json.loads(output), complaint.count("begun"), process.pid


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own setting")
@pytest.mark.parametrize("how", ["-m", "-c", "file"])
def test_the_program_begins_again_once_as_the_same_process_with_its_arguments(how: str, tmp_path: Path) -> None:
    (tmp_path / "showing.py").write_text(SHOW)
    program = {"-m": ["-m", "showing"], "-c": ["-c", SHOW], "file": ["showing.py"]}[how]
    (pid, arguments, utf8, tunables), begun, process = shown([*PYTHON, *program, "--a", "b c", ""], tmp_path)
    assert (begun, pid, utf8) == (2, process, 1)
    assert isinstance(arguments, list)
    assert arguments[1:] == ["--a", "b c", ""]
    assert tunables == "glibc.malloc.hugetlb=1"


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own setting")
def test_what_the_user_has_set_is_kept(tmp_path: Path) -> None:
    (*_, tunables), begun, _ = shown([*PYTHON, "-c", SHOW], tmp_path, "glibc.malloc.arena_max=2")
    assert (begun, tunables) == (2, "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1")
    (*_, tunables), begun, _ = shown([*PYTHON, "-c", SHOW], tmp_path, "glibc.malloc.hugetlb=0")
    assert (begun, tunables) == (1, "glibc.malloc.hugetlb=0")
