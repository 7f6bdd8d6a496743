"""What was written since ingestion, laid over the ingested tables.

The rule: a written row outranks the ingested one of the same key, whenever either came; a key
that was deleted by a write stays away until a write brings it back; a user who was erased stays
away for ever. So ingesting old files again changes nothing that callers have written.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recmesh.storage.erased_users import ErasedUsers
from recmesh.storage.interchange import TableSchema

DELETED = "deleted"
"""Column of changed rows that says the change took the row away."""


@dataclass(frozen=True)
class CatalogChanges:
    """Changes of a range of sequence numbers; each key once, as it is now."""

    through_seq: int
    """The last number of the range."""
    head_seq: int
    """The last number given when this was read."""
    tables: dict[str, pa.Table]
    """By the interchange table's name: its columns, or some of them, and ``deleted``."""
    erased: ErasedUsers


def _in_order(schema: TableSchema, rows: pa.Table) -> pa.Table:
    return rows.sort_by([(name, "ascending") for name in schema.key])


@dataclass(frozen=True)
class CatalogOverlay:
    """All changes of the log, ready to be laid over tables."""

    changes: CatalogChanges

    @property
    def version(self) -> str:
        """Names the state of the log; empty before the first write."""
        return str(self.changes.through_seq) if self.changes.through_seq else ""

    def on(self, schema: TableSchema, ingested: pa.Table) -> pa.Table:
        """The table as it is now.

        Ingested rows keep their order, changed ones in their places; rows that were never
        ingested follow, by key: the same rows give the same order, however they came.
        """
        table = self.changes.erased.without(schema.name, ingested)
        changed = self.changes.tables.get(schema.name)
        if changed is None or not changed.num_rows:
            return table
        keys, changed_keys = schema.keys_of(table), schema.keys_of(changed)
        at = pc.index_in(keys, value_set=changed_keys).fill_null(-1).to_numpy()
        known = pc.is_in(changed_keys, value_set=keys).to_numpy(zero_copy_only=False)
        live = ~changed[DELETED].to_numpy()
        fresh = _in_order(schema, changed.filter(pa.array(live & ~known)))
        rows = pa.concat_tables([table, changed.drop_columns([DELETED]).cast(table.schema)])
        place = np.where(at < 0, np.arange(len(at)), table.num_rows + at)
        kept = place[(at < 0) | live[at]]
        return pa.concat_tables(
            [rows.take(pa.array(kept)), fresh.drop_columns([DELETED]).cast(table.schema)]
        ).combine_chunks()

    def outranked(self, schema: TableSchema, rows: pa.Table) -> int:
        """How many rows a write of the same key outranks."""
        changed = self.changes.tables.get(schema.name)
        if changed is None or not changed.num_rows:
            return 0
        ranked = pc.is_in(schema.keys_of(rows), value_set=schema.keys_of(changed))
        return int(pc.sum(ranked).as_py() or 0)
