"""The catalog's SQL tables: the interchange format's columns, and when a row changed.

A row is a key's current state: ``seq`` is the number of its last change, and ``deleted`` says
that the change took it away, its other columns being null then. So the tables are a log from
which only what was overwritten is missing. Times are milliseconds since 1970, UTC.
Migrations make the tables (:mod:`recmesh.storage.migrations`).
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from recmesh.storage.interchange import (
    CAMPAIGNS,
    EDGES,
    ITEMS,
    TEXT_LIST,
    TIMESTAMP,
    USERS,
    TableSchema,
)

METADATA = sa.MetaData()

_TYPES: dict[pa.DataType, Any] = {
    pa.string(): sa.Text,
    TEXT_LIST: sa.JSON(none_as_null=True),
    TIMESTAMP: sa.BigInteger,
    pa.bool_(): sa.Boolean,
    pa.int32(): sa.BigInteger,
    pa.int64(): sa.BigInteger,
    pa.float32(): sa.Float,
}


def _table(schema: TableSchema) -> sa.Table:
    return sa.Table(
        f"catalog_{schema.name}",
        METADATA,
        *(
            sa.Column(field.name, _TYPES[field.type], primary_key=field.name in schema.key)
            for field in schema.columns
        ),
        sa.Column("seq", sa.BigInteger, nullable=False, index=True),
        sa.Column("deleted", sa.Boolean, nullable=False),
    )


SCHEMAS: dict[str, TableSchema] = {s.name: s for s in (ITEMS, USERS, EDGES, CAMPAIGNS)}
"""The tables that callers write."""

TABLES: dict[str, sa.Table] = {name: _table(schema) for name, schema in SCHEMAS.items()}
"""Their SQL tables."""

sa.Index("ix_catalog_edges_target", TABLES["edges"].c.target_user_id)

HEAD = sa.Table(
    "catalog_head",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("erasure_salt", sa.LargeBinary, nullable=False),
)
"""One row: the last sequence number given, and the key of erased ids' hashes."""

ERASED_USERS = sa.Table(
    "erased_users",
    METADATA,
    sa.Column("id_hash", sa.LargeBinary, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False, index=True),
)

INDEX_POSITIONS = sa.Table(
    "index_positions",
    METADATA,
    sa.Column("collection", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
)
"""The last change that a vector collection holds."""
