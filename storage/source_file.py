"""Source files in chunks of raw columns: Parquet, CSV and JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recmesh.storage.errors import DataError
from recmesh.storage.row_validation import Cells

CHUNK = 100_000
SUFFIXES = (".parquet", ".csv", ".jsonl")


@dataclass(slots=True)
class Chunk:
    """Rows that stood together: columns, 1-based lines, and rows no table can hold."""

    cells: dict[str, Cells]
    lines: list[int]
    rows: list[dict[str, Any]] | None = None
    """The raw rows; None: take them from ``cells``."""
    broken: list[tuple[int, str, str]] = field(default_factory=list)
    """Line, reason, text."""

    def row(self, index: int) -> dict[str, Any]:
        """Raw row as it was read, for the quarantine."""
        if self.rows is not None:
            return self.rows[index]
        row = {}
        for name, column in self.cells.items():
            cell = column[index]
            if isinstance(cell, pa.StringScalar | pa.LargeStringScalar) and cell.is_valid:
                row[name] = cell.as_buffer().to_pybytes().decode(errors="replace")
            else:
                row[name] = cell.as_py()
        return row


def _from_rows(
    names: list[str],
    rows: list[dict[str, Any]],
    lines: list[int],
    broken: list[tuple[int, str, str]],
) -> Chunk:
    cells: dict[str, Cells] = {name: [row.get(name) for row in rows] for name in names}
    return Chunk(cells, lines, rows, broken)


def _read_jsonl(file: Path) -> Iterator[Chunk]:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    broken: list[tuple[int, str, str]] = []
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("not an object")
                rows.append(row)
                lines.append(number)
            except (ValueError, RecursionError) as error:
                broken.append((number, f"bad JSON: {error}", line.decode(errors="replace")))
            if len(rows) + len(broken) == CHUNK:
                yield _from_rows(sorted(set().union(*rows)), rows, lines, broken)
                rows, lines, broken = [], [], []
    yield _from_rows(sorted(set().union(*rows)), rows, lines, broken)


def _read_csv(file: Path) -> Iterator[Chunk]:
    csv.field_size_limit(2**31 - 1)
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        reader = csv.reader(stream)
        names = next(reader, [])
        rows: list[dict[str, Any]] = []
        lines: list[int] = []
        broken: list[tuple[int, str, str]] = []
        start = reader.line_num + 1
        for cells in reader:
            if len(cells) == len(names):
                rows.append(dict(zip(names, cells, strict=True)))
                lines.append(start)
            elif cells:
                reason = f"{len(cells)} cells where the header has {len(names)}"
                broken.append((start, reason, ",".join(cells)))
            start = reader.line_num + 1
            if len(rows) + len(broken) == CHUNK:
                yield _from_rows(names, rows, lines, broken)
                rows, lines, broken = [], [], []
        yield _from_rows(names, rows, lines, broken)


def _read_parquet(file: Path) -> Iterator[Chunk]:
    try:
        line = 1
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(CHUNK):
                cells = dict(zip(batch.schema.names, batch.columns, strict=True))
                yield Chunk(cells, list(range(line, line + batch.num_rows)))
                line += batch.num_rows
    except pa.ArrowException as error:
        raise DataError(f"{file.name} is not readable Parquet: {error}") from error


def read_chunks(file: Path) -> Iterator[Chunk]:
    """Chunks of at most ``CHUNK`` rows.

    Raises:
        DataError: the file as a whole cannot be read.
    """
    read = {".parquet": _read_parquet, ".csv": _read_csv, ".jsonl": _read_jsonl}
    return read[file.suffix](file)
