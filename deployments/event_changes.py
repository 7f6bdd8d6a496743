"""Events as messages between the parts of a mesh."""

from __future__ import annotations

from recmesh.deployments.arrow_stream import table_bytes, table_of
from recmesh.orchestrator.live_histories import FOLLOWED_EVENTS
from recmesh.storage.event_log import EventBatch, EventLog
from recmesh.v1 import catalog_log_pb2

MOST_EVENTS = 5_000
"""In one message: at most some 3 MB, as ids have 256 bytes at most."""


def events_message(log: EventLog, after_seq: int) -> catalog_log_pb2.ReadEventsResponse:
    """The next events: as many as fit a message."""
    batch = log.read(after_seq, limit=MOST_EVENTS, columns=FOLLOWED_EVENTS)
    return catalog_log_pb2.ReadEventsResponse(
        through_seq=batch.through_seq, head_seq=batch.head_seq, arrow=table_bytes(batch.events)
    )


def events_of(message: catalog_log_pb2.ReadEventsResponse) -> EventBatch:
    """What a message tells."""
    return EventBatch(message.through_seq, message.head_seq, table_of(message.arrow))
