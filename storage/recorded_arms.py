"""Events by the arms of one experiment, from the event log alone."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from recmesh.storage.database import Database, statement_chunks
from recmesh.storage.event_tables import EVENTS

ARMED = pa.schema(
    [
        ("arm", pa.string()),
        ("user_id", pa.string()),
        ("event_type", pa.string()),
        ("request_id", pa.string()),
        ("item_id", pa.string()),
        ("rank", pa.int32()),  # 0: of no slot
        ("campaign_id", pa.string()),
        ("policy_version", pa.string()),
        ("time_ms", pa.int64()),  # by the client's clock
        ("dwell_s", pa.float64()),  # 0: unknown
    ]
)
"""Of an event whose page took part. The arm of an event on an interleaved page is that which picked
its slot."""
COUNTED = pa.schema(
    [
        ("key", pa.string()),  # a user or an item
        ("event_type", pa.string()),
        ("events", pa.int64()),
        ("dwell_s", pa.float64()),
        ("sponsored", pa.int64()),  # of them, of slots that were paid for
    ]
)
"""Sums of events that count."""
BATCH = 50_000


@dataclass(frozen=True, slots=True)
class RecordedArms:
    """Reads what an experiment brought about. Calls block: make them in a thread."""

    database: Database

    def events(self, experiment: str) -> pa.Table:
        """Events of pages that took part, in the order in which they came; see :data:`ARMED`.

        Impressions of a slot, and clicks on a sponsored one, after the first are left out.

        Raises:
            UnavailableError: the database does not answer.
        """
        columns = (
            EVENTS.c.experiment_arms,
            EVENTS.c.user_id,
            EVENTS.c.event_type,
            EVENTS.c.request_id,
            EVENTS.c.item_id,
            EVENTS.c.rank,
            EVENTS.c.campaign_id,
            EVENTS.c.policy_version,
            EVENTS.c.time,
            EVENTS.c.dwell_ms,
        )
        # Names of experiments hold no character that LIKE reads otherwise.
        wanted = (
            sa.select(*columns)
            .where(EVENTS.c.experiment_arms.like(f'%"{experiment}":%'), EVENTS.c.counted)
            .order_by(EVENTS.c.seq)
        )
        arms: dict[str, str] = {}
        parts = []
        for rows in self._batches(wanted):
            for row in rows:
                if row[0] not in arms:
                    arms[row[0]] = json.loads(row[0])[experiment]
            by_column = list(zip(*rows, strict=True))
            by_column[0] = tuple(arms[text] for text in by_column[0])
            by_column[-1] = tuple((ms or 0) / 1000 for ms in by_column[-1])
            parts.append(pa.table(dict(zip(ARMED.names, by_column, strict=True)), schema=ARMED))
        return pa.concat_tables(parts) if parts else ARMED.empty_table()

    def counts(
        self,
        by: str,
        keys: Collection[str],
        *,
        from_unix_s: float,
        to_unix_s: float,
        surfaces: Sequence[str] = (),
    ) -> pa.Table:
        """What came of users or items within a time by the clocks of clients; see :data:`COUNTED`.

        Args:
            by: ``user_id`` or ``item_id``.
            keys: whose events.
            from_unix_s: the first moment.
            to_unix_s: the first moment after it.
            surfaces: only there; empty: everywhere.

        Raises:
            UnavailableError: the database does not answer.
        """
        key = EVENTS.c[by]
        wanted = (
            sa.select(
                key,
                EVENTS.c.event_type,
                sa.func.count(),
                sa.func.coalesce(sa.func.sum(EVENTS.c.dwell_ms), 0) / 1000.0,
                sa.func.sum(sa.case((EVENTS.c.campaign_id != "", 1), else_=0)),
            )
            .where(
                EVENTS.c.counted,
                EVENTS.c.time >= int(1000 * from_unix_s),
                EVENTS.c.time < int(1000 * to_unix_s),
            )
            .group_by(key, EVENTS.c.event_type)
        )
        if surfaces:
            wanted = wanted.where(EVENTS.c.surface.in_(list(surfaces)))
        rows: list[Any] = []
        with self.database.reading() as connection:
            for some in statement_chunks(sorted(keys)):
                rows += connection.execute(wanted.where(key.in_(some))).all()
        by_column = list(zip(*rows, strict=True)) if rows else [()] * len(COUNTED.names)
        columns = {
            field.name: pa.array([float(v) for v in values], field.type)
            if field.type == pa.float64()
            else pa.array(list(values), field.type)
            for field, values in zip(COUNTED, by_column, strict=True)
        }
        return pa.table(columns)

    def _batches(self, wanted: sa.Select[Any]) -> Iterator[list[Any]]:
        with self.database.reading() as connection:
            result = connection.execution_options(yield_per=BATCH).execute(wanted)
            for rows in result.partitions():
                yield list(rows)
