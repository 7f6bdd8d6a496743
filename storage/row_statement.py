"""A statement that drivers execute for many rows as they are.

SQLAlchemy prepares each value of each row for the driver. Where texts, numbers, bytes and booleans
need no preparation, that costs as much as the insertion itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

_POSTGRESQL = sa.make_url("postgresql+psycopg://").get_dialect()


class RowStatement:
    """Made once, for both databases."""

    def __init__(self, make: Callable[[Any], sa.ClauseElement]) -> None:
        """``make`` is given the database's ``insert`` and returns the statement."""
        self._sql = {
            "sqlite": str(make(sqlite.insert).compile(dialect=sqlite.dialect(paramstyle="named"))),
            "postgresql": str(make(postgresql.insert).compile(dialect=_POSTGRESQL())),
        }

    def execute(self, connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
        """Executes it for every row; ``rows``, one at least, have every column by name."""
        connection.exec_driver_sql(self._sql[connection.dialect.name], rows)
