"""Takes each protection out and asks its test: python -m tests.protections [--only CASE]

A test that never fails proves nothing. A copy of the tree loses one protection at a time (`protections_taken.py`), and
the test that holds it must fail there: for an expectation that is not met, not for a module that cannot be imported.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.protections_taken import TAKEN, Protection

ROOT = Path(__file__).parents[1]
NEEDED = ("src", "tests", "recipes", "suites", "pyproject.toml")
SECONDS = 300.0  # for the test of one protection, which takes a few
NO_PROOF = re.compile(  # a module that is broken, or an edit that is
    r"\b(?:SyntaxError|IndentationError|ImportError|ModuleNotFoundError|NameError|UnboundLocalError)\b: "
)
_OUTCOME = re.compile(r"^tests/(\S+\.py::.+?) (PASSED|FAILED|ERROR|SKIPPED)\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Ended:
    """How pytest ended: its exit code, None where it had to be killed; what it said."""

    code: int | None
    said: str


def pytest_in(tree: Path, tests: Sequence[str], seconds: float) -> Ended:
    """Runs tests in a copy of the tree, from its own source. All that they leave behind goes with the copy."""
    options = ["-o", "addopts=", "-v", "--tb=short", "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *(f"tests/{test}" for test in tests)],
        cwd=tree,
        env={
            **os.environ,
            "PYTHONPATH": f"{tree / 'src'}:{tree}",
            "TMPDIR": str(tree / "tmp"),
            "HF_MODULES_CACHE": str(tree / "tmp/modules"),  # where a model's own code would be put, were it trusted
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said = process.communicate(timeout=seconds)[0]
        return Ended(process.returncode, said)
    except subprocess.TimeoutExpired:
        return Ended(None, "")
    finally:
        kill_all_of(tree)
        process.communicate()


def kill_all_of(tree: Path) -> None:
    """Kills whatever was started in the copy and lives: who kills the workers may be what was taken out."""
    mark = f"TMPDIR={tree / 'tmp'}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)


def take_out(tree: Path, protection: Protection) -> None:
    """Edits the copy. Raises ValueError where a text does not stand exactly once in its file."""
    for file, old, new in protection.edits:
        path = tree / "src/tutelage" / file
        text = path.read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise ValueError(f"{file}: stands there {text.count(old)} times: {old!r}")
        path.write_text(text.replace(old, new), encoding="utf-8")


def put_back(tree: Path, protection: Protection) -> None:
    for file, _, _ in protection.edits:
        shutil.copyfile(ROOT / "src/tutelage" / file, tree / "src/tutelage" / file)


def whole(tree: Path, protections: Sequence[Protection]) -> dict[str, str]:
    """The outcome of every test on the tree as it is, by its name. Raises ValueError where one is not to be found."""
    tests = list(dict.fromkeys(protection.test for protection in protections))
    ended = pytest_in(tree, tests, SECONDS * len(tests))
    if ended.code not in (0, 1):
        raise ValueError(f"pytest ended with {ended.code}:\n{ended.said[-2000:]}")
    return dict(_OUTCOME.findall(ended.said))


def verdict(tree: Path, protection: Protection, before: dict[str, str]) -> tuple[bool, str]:
    """Is all well with a protection, and what became of its test without it."""
    own = [outcome for name, outcome in before.items() if protection.test in (name, name.partition("[")[0])]
    if not own or "FAILED" in own or "ERROR" in own:
        return False, "NO: it does not pass with the protection either"
    if "PASSED" not in own:
        return True, "left out: skipped on this machine"
    take_out(tree, protection)
    try:
        ended = pytest_in(tree, [protection.test], protection.hangs or SECONDS)
    finally:
        put_back(tree, protection)
    if ended.code is None:
        return protection.hangs > 0, "yes: it hangs" if protection.hangs else "NO: it hangs"
    if found := NO_PROOF.search(ended.said):
        return False, f"NO: {found[0]}{ended.said[found.end() :].splitlines()[0]}"
    if ended.code != 1:
        return False, f"NO: pytest ended with {ended.code}"
    return True, f"yes: `{_first_complaint(ended.said)}`"


def _first_complaint(said: str) -> str:
    """What the first failure says, as far as it fits into a table."""
    found = re.search(r"^E +(.*)$", said, re.MULTILINE)
    return (found[1] if found else "").translate({ord("|"): "/", ord("`"): "'"})[:90]


def rows(protections: Sequence[Protection]) -> Iterator[tuple[bool, str]]:
    """A line of the table for each protection, and whether it is as it should be."""
    with tempfile.TemporaryDirectory(prefix="protections-") as folder:
        tree = Path(folder)
        for name in NEEDED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
            copy(ROOT / name, tree / name)
        (tree / "tmp").mkdir()
        before = whole(tree, protections)
        for protection in protections:
            well, words = verdict(tree, protection, before)
            yield well, f"| {protection.case} | {protection.taken} | `{protection.test}` | {words} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, nargs="+", metavar="CASE", help="these cases, and no others")
    only = parser.parse_args().only
    print("| case | taken out | test | failed? |\n|---|---|---|---|", flush=True)
    outcomes: list[bool] = []
    for well, line in rows([one for one in TAKEN if only is None or one.case in only]):
        print(line, flush=True)
        outcomes.append(well)
    print(f"\n{len(outcomes)} protections, {outcomes.count(False)} of them not proven")
    return 0 if outcomes and all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
