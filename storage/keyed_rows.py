"""Rows by keys of one or several columns, found by an index on either database.

Written for the driver, not with SQLAlchemy's ``in_``: SQLite 3.40 reads a whole table for
``(a, b) IN (VALUES …)``, however few the keys are, and SQLAlchemy's work for each value of an
expanding parameter costs more than to look its row up.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from recmesh.storage.database import statement_chunks


class KeyedRows:
    """A lookup in one table, made once and done often."""

    def __init__(
        self, wanted: Sequence[sa.Column[Any]], key: Sequence[sa.Column[Any]], where: str = ""
    ) -> None:
        """What to look up.

        Args:
            wanted: columns of the table; booleans come as the driver has them, SQLite's as 0 or 1.
            key: those that keys are of, an index's first ones.
            where: SQL that rows must fulfil too, ``?`` where it takes a value.
        """
        table = key[0].table
        matches = [f"{table}.{c.name} = keys.column{n}" for n, c in enumerate(key, 1)]
        # SQLite takes the tables of a CROSS JOIN in the order in which they stand.
        self._select = f"SELECT {', '.join(f'{table}.{c.name}' for c in wanted)} FROM (VALUES "
        self._where = f") AS keys CROSS JOIN {table} WHERE {' AND '.join(matches)}"
        self._where += f" AND ({where})" if where else ""
        self._marks = f"({', '.join('?' * len(key))})"

    def among(
        self, connection: sa.Connection, keys: Iterable[tuple[Any, ...]], *values: Any
    ) -> Iterator[Any]:
        """The rows that the table has of the keys, which must differ; in no order.

        Args:
            connection: in whose transaction to look.
            keys: values of the key's columns, in their order.
            values: of ``where``.
        """
        for some in statement_chunks(keys):
            statement = self._select + ", ".join([self._marks] * len(some)) + self._where
            if connection.dialect.name == "postgresql":
                statement = statement.replace("?", "%s")
            named = (*itertools.chain.from_iterable(some), *values)
            yield from connection.exec_driver_sql(statement, named)
