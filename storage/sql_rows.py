"""Rows of our SQL tables as Parquet: the same from SQLite and PostgreSQL, and into either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from recmesh.storage.catalog_tables import HEAD
from recmesh.storage.event_tables import EVENT_HEAD
from recmesh.storage.row_statement import RowStatement

ROWS_AT_ONCE = 10_000

_TYPES: dict[type[sa.types.TypeEngine[Any]], pa.DataType] = {
    sa.Text: pa.string(),
    sa.JSON: pa.string(),
    sa.BigInteger: pa.int64(),
    sa.Integer: pa.int64(),
    sa.Boolean: pa.bool_(),
    sa.Double: pa.float64(),
    sa.Float: pa.float64(),
    sa.LargeBinary: pa.binary(),
}

_MADE_WITH_A_ROW = (HEAD.name, EVENT_HEAD.name)
"""Migrations put one row there: the number that nothing has yet."""


def _schema(table: sa.Table) -> pa.Schema:
    return pa.schema([(column.name, _TYPES[type(column.type)]) for column in table.columns])


def write_rows(connection: sa.Connection, table: sa.Table, file: Path) -> int:
    """Writes a table's rows to a file; returns how many."""
    schema, number = _schema(table), 0
    as_text = [type(column.type) is sa.JSON for column in table.columns]
    found = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(sa.select(table))
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for rows in found.partitions():
            columns = [
                [None if v is None else json.dumps(v) for v in values] if text else list(values)
                for text, values in zip(as_text, zip(*rows, strict=True), strict=True)
            ]
            arrays = [pa.array(v, f.type) for v, f in zip(columns, schema, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            number += len(rows)
    return number


def read_rows(connection: sa.Connection, table: sa.Table, file: Path) -> int:
    """Puts a file's rows into a table without any; returns how many."""
    insert = RowStatement(lambda made: made(table))
    number = 0
    connection.execute(sa.delete(table))
    with pq.ParquetFile(file) as opened:
        for batch in opened.iter_batches(ROWS_AT_ONCE):
            insert.execute(connection, batch.to_pylist())
            number += batch.num_rows
    if connection.dialect.name == "postgresql":
        _count_on(connection, table)
    return number


def _count_on(connection: sa.Connection, table: sa.Table) -> None:
    """Has PostgreSQL give out numbers after those that came with the rows."""
    column = table.autoincrement_column
    if column is None:
        return
    name = connection.execute(
        sa.select(sa.func.pg_get_serial_sequence(table.name, column.name))
    ).scalar()
    last = connection.execute(sa.select(sa.func.max(column))).scalar()
    if name and last:
        connection.execute(sa.select(sa.func.setval(name, last)))


def tables_with_rows(connection: sa.Connection, tables: list[sa.Table]) -> list[str]:
    """Names of those that somebody has written to."""
    found = []
    for table in tables:
        wanted = sa.select(sa.literal(1)).select_from(table)
        if table.name in _MADE_WITH_A_ROW:
            wanted = wanted.where(table.c.seq > 0)
        if connection.execute(wanted.limit(1)).first():
            found.append(table.name)
    return found
