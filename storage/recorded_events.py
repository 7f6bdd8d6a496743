"""Recorded events as if they had been ingested, for who learns from both."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from recmesh.storage.event_log import EventLog
from recmesh.storage.interchange import EVENTS

BATCH = 100_000
_READ = (
    "caller",
    "event_id",
    "user_id",
    "item_id",
    "event_type",
    "received_at",
    "surface",
    "rank",
    "dwell_s",
    "query",
    "campaign_id",
    "counted",
)


@dataclass(frozen=True)
class RecordedEvents:
    """All events of the log up to one, each once."""

    through_seq: int
    """The last number of the log that is in it; 0: nothing was recorded."""
    events: pa.Table
    """Columns of the interchange table ``events``, by ascending time: when the server received
    them. Ids are the caller's and the event's; what counted no more is left out."""

    @classmethod
    def read(cls, log: EventLog) -> RecordedEvents:
        """What the log has now. Raises UnavailableError: the database does not answer."""
        parts, seq, head_seq = [EVENTS.columns.empty_table()], 0, None
        while head_seq is None or seq < head_seq:
            batch = log.read(seq, limit=BATCH, columns=_READ)
            seq = batch.through_seq
            # What comes meanwhile is the next reader's.
            head_seq = batch.head_seq if head_seq is None else head_seq
            parts.append(_as_ingested(batch.events))
        return cls(seq, pa.concat_tables(parts).sort_by("time"))

    def after(self, ingested: pa.Table) -> pa.Table:
        """Those later than the newest ingested event.

        Who ingests what the platform itself logged brings recorded events again: from the newest
        ingested one back, what was ingested is all that there is.
        """
        newest = pc.max(ingested["time"])
        if not newest.is_valid:
            return self.events
        return self.events.filter(pc.greater(self.events["time"], newest))


def _as_ingested(recorded: pa.Table) -> pa.Table:
    counted = recorded.filter(recorded["counted"])
    ids = pc.binary_join_element_wise(counted["caller"], counted["event_id"], "/")
    ratings = pa.nulls(counted.num_rows, pa.float32())
    return (
        counted.set_column(counted.column_names.index("event_id"), "event_id", ids)
        .rename_columns({"received_at": "time"})
        .append_column("rating", ratings)
        .select(EVENTS.columns.names)
        .cast(EVENTS.columns)
    )
