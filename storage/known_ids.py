"""Which items and users there are: what was ingested, under what callers wrote since."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from recmesh.storage.catalog_tables import SCHEMAS, TABLES
from recmesh.storage.database import Database, statement_chunks
from recmesh.storage.ingested_ids import IngestedIds

# Made once: making a statement costs more than looking a few ids up.
_STATES = {
    name: sa.select(TABLES[name].c[SCHEMAS[name].key[0]], TABLES[name].c.deleted).where(
        TABLES[name].c[SCHEMAS[name].key[0]].in_(sa.bindparam("some", expanding=True))
    )
    for name in ("items", "users")
}


class KnownIds:
    """Looks ids up. Calls read files and the database: make them in a thread."""

    def __init__(self, database: Database, ingested: IngestedIds) -> None:
        self._database = database
        self._ingested = ingested

    def among(self, table: str, ids: Collection[str]) -> set[str]:
        """Those of the ids that the table, ``items`` or ``users``, has now.

        Raises:
            UnavailableError: the database does not answer.
        """
        if not ids:
            return set()
        known = set(self._ingested.among(table, ids))
        with self._database.reading() as connection:
            for some in statement_chunks(ids):
                rows = connection.execute(_STATES[table], {"some": some}).all()
                known |= {row[0] for row in rows if not row.deleted}
                known -= {row[0] for row in rows if row.deleted}
        return known

    def among_items_and_users(self, ids: Collection[str]) -> set[str]:
        """Those of the ids that are an item's, or a user's, who is one on the network surface.

        Raises as :meth:`among` does.
        """
        items = self.among("items", ids)
        return items | self.among("users", set(ids) - items)
