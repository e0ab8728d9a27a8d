"""An append-only file of JSON lines that survives kills and full disks: metrics and samples are written with it."""

from __future__ import annotations

import errno
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tutelage.errors import RunFolderError

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Journal:
    """One line a record, with the operating system as soon as it is written.

    `offset` belongs into a checkpoint; `truncate_to(offset)` on resume cuts what was written after it. A full disk is
    warned of once and survived: a record is lost, training goes on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._warned = False
        try:
            # Unbuffered: a failed write leaves nothing behind that a later flush would trip over.
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be written: {error.strerror}") from error

    @property
    def offset(self) -> int:
        """Bytes written so far."""
        return os.fstat(self._file.fileno()).st_size

    def truncate_to(self, offset: int) -> None:
        """Cuts the file back to what it was at an earlier `offset`."""
        self._file.truncate(min(offset, self.offset))

    def append(self, record: Mapping[str, object]) -> None:
        """Writes one record as one line."""
        line = json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        before = self.offset
        try:
            written = self._file.write(line)
        except OSError as error:
            if error.errno not in _FULL:
                raise RunFolderError(f"{self.path}: cannot be written: {error.strerror}") from error
            written = 0
        if written == len(line):
            return
        if written:
            self._file.truncate(before)  # half a line would spoil the next one
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.path}: the disk is full; the run goes on, but records are lost until there is space",
                RuntimeWarning,
                stacklevel=3,
            )

    def keep_only(self, wanted: Callable[[Mapping[str, Any]], bool]) -> None:
        """Drops the other records. The file is replaced, whole or not at all."""
        beside = self.path.with_name(f".{self.path.name}.partial")
        with self.path.open("rb") as lines, beside.open("wb") as kept:
            for line in lines:
                try:
                    record = json.loads(line)
                except ValueError:  # a kill tore it
                    continue
                if wanted(record):
                    kept.write(line)
        self._file.close()
        beside.replace(self.path)
        self._file = self.path.open("ab", buffering=0)

    def close(self) -> None:
        self._file.close()
