"""Events as messages between the parts of a mesh."""

from __future__ import annotations

import pyarrow as pa

from recmesh.orchestrator.live_histories import FOLLOWED_EVENTS
from recmesh.storage.event_log import EventBatch, EventLog
from recmesh.v1 import catalog_log_pb2

MOST_EVENTS = 5_000
"""In one message: at most some 3 MB, as ids have 256 bytes at most."""


def events_message(log: EventLog, after_seq: int) -> catalog_log_pb2.ReadEventsResponse:
    """The next events: as many as fit a message."""
    batch = log.read(after_seq, limit=MOST_EVENTS, columns=FOLLOWED_EVENTS)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.events.schema) as stream:
        stream.write_table(batch.events)
    return catalog_log_pb2.ReadEventsResponse(
        through_seq=batch.through_seq, head_seq=batch.head_seq, arrow=sink.getvalue().to_pybytes()
    )


def events_of(message: catalog_log_pb2.ReadEventsResponse) -> EventBatch:
    """What a message tells."""
    with pa.ipc.open_stream(message.arrow) as stream:
        return EventBatch(message.through_seq, message.head_seq, stream.read_all())
