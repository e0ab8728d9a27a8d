"""A run's metrics and samples as tables, for whatever people like to count with."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tutelage.errors import ConfigError, MissingExtraError, RunFolderError
from tutelage.report.read import each_row

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS: Final = ("csv", "parquet")
_LOGS = ("metrics", "samples")
_AT_ONCE = 10_000  # rows

Kind = type[float] | type[int] | type[bool] | type[str]
"""Of a column: the least of bool, int, float and str that holds all of its values."""


def write_tables(folder: Path, format: str, out: Path) -> list[Path]:
    """Writes OUT/metrics.FORMAT and OUT/samples.FORMAT, one row a step and a sample. Returns what was written.

    Tables within a row become columns (`rewards/task`), lists become JSON. The logs are read twice, row by row: they
    may be larger than memory. Texts are as the model wrote them: a spreadsheet that takes what begins with `=` for a
    formula is no place for them.

    Raises:
        ConfigError: an unknown format.
        MissingExtraError: for parquet, pyarrow is not installed.
        RunFolderError: no run lies there, or OUT cannot be written.
    """
    if format not in FORMATS:
        raise ConfigError(f"--format {format}: there are {' and '.join(FORMATS)}")
    if not (folder / "recipe.json").is_file():
        raise RunFolderError(f"{folder}: no run lies here (no recipe.json)")
    write = _write_csv if format == "csv" else _parquet_writer()
    written: list[Path] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for log in _LOGS:
            source, path = folder / f"{log}.jsonl", out / f"{log}.{format}"
            columns = _columns(_flat_rows(source))
            if columns:
                write(path, columns, _flat_rows(source))
                written.append(path)
    except OSError as error:
        raise RunFolderError(f"{out}: cannot be written: {error.strerror}; choose another --out") from error
    return written


def _flat_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    return (dict(_flat(row, "")) for row in each_row(path))


def _flat(row: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}/")
        elif isinstance(value, list):
            yield f"{before}{name}", json.dumps(value)
        else:
            yield f"{before}{name}", value


def _columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, Kind]:
    """The columns of all rows, in the order in which they come up, with their kinds; str where nothing is known."""
    order: tuple[Kind, ...] = (bool, int, float, str)
    found: dict[str, int] = {}
    for row in rows:
        for name, value in row.items():
            place = -1 if value is None else order.index(type(value)) if type(value) in order else 3
            before = found.get(name, -1)
            # A truth value beside a number is no number.
            found[name] = 3 if {place, before} in ({0, 1}, {0, 2}) else max(place, before)
    return {name: order[place] if place >= 0 else str for name, place in found.items()}


def _cast(value: Any, kind: Kind) -> Any:
    if value is None or type(value) is kind:
        return value
    return kind(value)


def _write_csv(path: Path, columns: Mapping[str, Kind], rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([row.get(name) for name in columns] for row in rows)


def _parquet_writer() -> Any:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetWriter
    except ImportError:
        raise MissingExtraError("pyarrow", "data", "--format parquet") from None

    types: Mapping[Kind, pa.DataType] = {
        bool: pyarrow.bool_(), int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string(),
    }  # fmt: skip

    def write(path: Path, columns: Mapping[str, Kind], rows: Iterable[Mapping[str, Any]]) -> None:
        schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
        remaining = iter(rows)
        with ParquetWriter(path, schema) as writer:
            while some := list(islice(remaining, _AT_ONCE)):
                table = {name: [_cast(_clean(row.get(name)), kind) for row in some] for name, kind in columns.items()}
                writer.write_table(pyarrow.table(table, schema=schema))

    return write


def _clean(value: Any) -> Any:
    """Half a character, as byte-level tokens can give, is no text that may be written."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
