"""Which items and users there are: what was ingested, under what callers wrote since."""

from __future__ import annotations

from collections.abc import Collection

from recmesh.storage.catalog_tables import TABLES
from recmesh.storage.database import Database
from recmesh.storage.ingested_ids import IngestedIds
from recmesh.storage.keyed_rows import KeyedRows

# Made once: making a statement costs more than looking a few ids up.
_STATES = {
    name: KeyedRows([TABLES[name].c[key], TABLES[name].c.deleted], [TABLES[name].c[key]])
    for name, key in (("items", "item_id"), ("users", "user_id"))
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
            for id_, deleted in _STATES[table].among(connection, ((id_,) for id_ in ids)):
                if deleted:
                    known.discard(id_)
                else:
                    known.add(id_)
        return known

    def among_items_and_users(self, ids: Collection[str]) -> set[str]:
        """Those of the ids that are an item's, or a user's, who is one on the network surface.

        Raises as :meth:`among` does.
        """
        items = self.among("items", ids)
        return items | self.among("users", set(ids) - items)
