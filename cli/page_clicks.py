"""Which items of which pages had an event of a kind."""

from __future__ import annotations

from recmesh.storage.event_log import EventLog

EVENTS_TOGETHER = 50_000


def page_clicks(log: EventLog, event_type: str = "click") -> dict[tuple[str, str], float]:
    """1 for every request and item of its page that had such an event."""
    found: dict[tuple[str, str], float] = {}
    seq = 0
    while True:
        batch = log.read(
            seq, limit=EVENTS_TOGETHER, columns=["event_type", "request_id", "item_id"]
        )
        events = batch.events
        for kind, request_id, item_id in zip(
            events["event_type"].to_pylist(),
            events["request_id"].to_pylist(),
            events["item_id"].to_pylist(),
            strict=True,
        ):
            if kind == event_type and request_id:
                found[request_id, item_id] = 1.0
        seq = batch.through_seq
        if seq >= batch.head_seq:
            return found
