"""Tables as the bytes that a message carries: Arrow's IPC stream format."""

from __future__ import annotations

import functools

import pyarrow as pa


def table_bytes(table: pa.Table) -> bytes:
    """A table with its schema."""
    return _bytes(table) if table.num_rows else _no_rows(table.schema)


@functools.lru_cache
def _no_rows(schema: pa.Schema) -> bytes:
    return _bytes(schema.empty_table())


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def table_of(content: bytes) -> pa.Table:
    """The table that :func:`table_bytes` was given."""
    with pa.ipc.open_stream(content) as stream:
        return stream.read_all()
