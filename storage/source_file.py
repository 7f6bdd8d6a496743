"""Source files in chunks of raw columns: Parquet, CSV and JSON lines.

CSV and JSON lines are parsed a block at a time by Arrow. A block that Arrow rejects, or in
which its rows are not one a line, is parsed again row by row, which finds the rows at fault
and their lines.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from recmesh.storage.errors import DataError
from recmesh.storage.interchange import TIMESTAMP, TableSchema
from recmesh.storage.row_validation import Cells

PARQUET_ROWS = 100_000
BLOCK_BYTES = 16 << 20
SUFFIXES = (".parquet", ".csv", ".jsonl")

Broken = tuple[int, str, str]
"""Line, reason, text of a row that no table can hold."""


@dataclass(slots=True)
class Chunk:
    """Rows that stood together: columns, 1-based lines, and rows no table can hold."""

    cells: dict[str, Cells]
    lines: Sequence[int]
    rows: Sequence[dict[str, Any] | bytes] | None = None
    """The rows as read, or their JSON; None: take them from ``cells``."""
    broken: list[Broken] = field(default_factory=list)

    def row(self, index: int) -> dict[str, Any]:
        """Raw row as it was read, for the quarantine."""
        if self.rows is not None:
            raw = self.rows[index]
            parsed: dict[str, Any] = json.loads(raw) if isinstance(raw, bytes) else raw
            return parsed
        row = {}
        for name, column in self.cells.items():
            cell = column[index]
            if isinstance(cell, pa.StringScalar | pa.LargeStringScalar) and cell.is_valid:
                row[name] = cell.as_buffer().to_pybytes().decode(errors="replace")
            else:
                row[name] = cell.as_py()
        return row


def _columns(table: pa.Table) -> dict[str, Cells]:
    arrays = (column.combine_chunks() for column in table.columns)
    return dict(zip(table.column_names, arrays, strict=True))


def _json_table(data: bytes, schema: TableSchema) -> pa.Table:
    data.decode()  # Arrow does not check; raises
    # Texts that look like times must stay texts, to be judged one by one.
    fields = [
        pa.field(f.name, pa.string() if f.type == TIMESTAMP else f.type) for f in schema.columns
    ]
    return pajson.read_json(
        pa.BufferReader(data),
        pajson.ReadOptions(use_threads=False, block_size=len(data) + 1),
        pajson.ParseOptions(explicit_schema=pa.schema(fields)),
    )


def _json_rows(block: list[bytes], first: int) -> Chunk:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    broken: list[Broken] = []
    for number, line in enumerate(block, first):
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
    cells: dict[str, Cells] = {
        name: [row.get(name) for row in rows] for name in sorted(set().union(*rows))
    }
    return Chunk(cells, lines, rows, broken)


def _read_jsonl(file: Path, schema: TableSchema) -> Iterator[Chunk]:
    first = 1
    with file.open("rb") as stream:
        while block := stream.readlines(BLOCK_BYTES):
            lines = range(first, first + len(block))
            try:
                table = _json_table(b"".join(block), schema)
                fits = table.num_rows == len(block)
            except (pa.ArrowException, ValueError):
                fits = False
            yield Chunk(_columns(table), lines, block) if fits else _json_rows(block, first)
            first = lines.stop


class _Lines:
    """Lines as text, counted as they are taken; bad bytes become surrogates."""

    def __init__(self, lines: Iterable[bytes], taken: int) -> None:
        self._lines = iter(lines)
        self.taken = taken

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.taken += 1
        return line.decode(errors="surrogateescape")


def _csv_table(block: list[bytes], names: list[str]) -> pa.Table | None:
    """None where Arrow and the csv module may differ."""
    data = b"".join(block)
    empty = data.startswith((b"\n", b"\r")) or b"\n\n" in data or b"\n\r\n" in data
    if empty or data.count(b"\r") != data.count(b"\r\n"):
        return None
    try:
        table = pacsv.read_csv(
            pa.BufferReader(data),
            pacsv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
            pacsv.ParseOptions(newlines_in_values=True),
            pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except (pa.ArrowException, ValueError):
        return None
    # A text over several lines, or a quote left open, makes rows fewer than lines.
    return table if table.num_rows == len(block) else None


def _csv_rows(
    block: list[bytes], stream: BinaryIO, names: list[str], first: int
) -> tuple[Chunk, int]:
    """Rows that begin in the block, and the next line's number; the last may end after it."""
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    broken: list[Broken] = []
    source = _Lines(chain(block, stream), first - 1)
    reader = csv.reader(source)
    while source.taken < first - 1 + len(block):
        start = source.taken + 1
        try:
            cells = next(reader)
        except csv.Error as error:
            broken.append((start, f"bad CSV: {error}", ""))
            reader = csv.reader(source)
            continue
        if len(cells) == len(names):
            rows.append(dict(zip(names, cells, strict=True)))
            lines.append(start)
        elif cells:
            reason = f"{len(cells)} cells where the header has {len(names)}"
            broken.append((start, reason, ",".join(cells)))
    columns: dict[str, Cells] = {name: [row[name] for row in rows] for name in names}
    return Chunk(columns, lines, rows, broken), source.taken + 1


def _check_names(names: list[str], schema: TableSchema) -> None:
    missing = [name for name in schema.required if name not in names]
    if missing:
        raise DataError(f"no column {', '.join(missing)}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"column {', '.join(twice)} twice")


def _read_csv(file: Path, schema: TableSchema) -> Iterator[Chunk]:
    csv.field_size_limit(2**31 - 1)
    with file.open("rb") as stream:
        head = _Lines(stream, 0)
        names = next(csv.reader(head), [""])
        names[0] = names[0].removeprefix("\ufeff")
        _check_names(names, schema)
        first = head.taken + 1
        while block := stream.readlines(BLOCK_BYTES):
            table = _csv_table(block, names)
            if table is None:
                chunk, first = _csv_rows(block, stream, names, first)
                yield chunk
            else:
                yield Chunk(_columns(table), range(first, first + len(block)))
                first += len(block)


def _read_parquet(file: Path, schema: TableSchema) -> Iterator[Chunk]:
    with pq.ParquetFile(file) as parquet:
        _check_names(parquet.schema_arrow.names, schema)
        first = 1
        for batch in parquet.iter_batches(PARQUET_ROWS):
            cells = dict(zip(batch.schema.names, batch.columns, strict=True))
            yield Chunk(cells, range(first, first + batch.num_rows))
            first += batch.num_rows


def read_chunks(file: Path, schema: TableSchema) -> Iterator[Chunk]:
    """Chunks of a block of text or of 100,000 Parquet rows.

    Raises:
        DataError: the file as a whole cannot be read, or lacks a required column; some
            chunks may have come before.
    """
    read = {".parquet": _read_parquet, ".csv": _read_csv, ".jsonl": _read_jsonl}
    try:
        yield from read[file.suffix](file, schema)
    except (pa.ArrowException, OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"not readable: {error}") from error
