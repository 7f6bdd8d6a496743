"""Rows to interchange Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recmesh.storage.interchange import TABLES

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows by table name; absent columns are empty."""


def write_tables(rows: Rows, out: Path) -> dict[str, int]:
    """Writes one Parquet file a table that has rows. Returns the rows by table."""
    out.mkdir(parents=True, exist_ok=True)
    for name, table in rows.items():
        given = {column for row in table for column in row}
        schema = pa.schema([field for field in TABLES[name].columns if field.name in given])
        pq.write_table(pa.Table.from_pylist(list(table), schema), out / f"{name}.parquet")
    return {name: len(table) for name, table in rows.items()}
