"""Recorded events as training reads them, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from recmesh.storage import recorded_events
from recmesh.storage.database import Database
from recmesh.storage.event_log import EventLog
from recmesh.storage.interchange import EVENTS
from recmesh.storage.recorded_events import RecordedEvents
from tests.conformance.test_event_log import NOW_MS, event, impression

NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)


def test_they_read_as_ingested_ones(database: Database) -> None:
    log = EventLog(database)
    log.write([event("late", event_type="dwell", dwell_ms=1500)], NOW_MS + 60_000)
    log.write([event("early", event_type="search", item_id="", query="heart")], NOW_MS)
    found = RecordedEvents.read(log)
    assert found.through_seq == 2
    assert found.events.schema == EVENTS.columns
    assert found.events.select(
        ["event_id", "event_type", "item_id", "time", "dwell_s", "rating", "query"]
    ).to_pylist() == [
        {
            "event_id": "app/early",
            "event_type": "search",
            "item_id": "",
            "time": NOW,
            "dwell_s": None,
            "rating": None,
            "query": "heart",
        },
        {
            "event_id": "app/late",
            "event_type": "dwell",
            "item_id": "i1",
            "time": NOW + timedelta(minutes=1),
            "dwell_s": 1.5,
            "rating": None,
            "query": "",
        },
    ]


def test_a_slot_that_is_shown_again_is_learned_from_once(database: Database) -> None:
    log = EventLog(database)
    log.write([impression("first", "r1"), impression("again", "r1")], NOW_MS)
    assert RecordedEvents.read(log).events["event_id"].to_pylist() == ["app/first"]


def test_a_long_log_is_read_in_parts(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_events, "BATCH", 2)
    log = EventLog(database)
    assert RecordedEvents.read(log).through_seq == 0
    for number in range(5):
        log.write([event(f"e{number}")], NOW_MS + number)
    found = RecordedEvents.read(log)
    assert found.through_seq == 5
    assert found.events["event_id"].to_pylist() == [f"app/e{number}" for number in range(5)]


def test_what_was_ingested_stands_for_its_time(database: Database) -> None:
    log = EventLog(database)
    for second in range(3):
        log.write([event(f"e{second}")], NOW_MS + 1000 * second)
    found = RecordedEvents.read(log)
    ingested = pa.Table.from_pylist(
        [{"event_id": "x", "time": NOW + timedelta(seconds=1)}], schema=EVENTS.columns
    )
    assert found.after(ingested)["event_id"].to_pylist() == ["app/e2"]
    assert found.after(EVENTS.columns.empty_table()) == found.events
