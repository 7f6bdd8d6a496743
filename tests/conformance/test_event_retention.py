"""Old events go, and nothing that somebody still needs. On SQLite and PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recmesh.storage import event_retention
from recmesh.storage.campaign_ledger import SlotLedger
from recmesh.storage.database import Database
from recmesh.storage.event_log import EventLog, save_position
from recmesh.storage.event_retention import Backlog, EventRetention
from tests.conformance.test_campaign_ledger import page, shown
from tests.conformance.test_event_log import event

DAY_MS = 86_400_000
OLD_MS, NEW_MS = 100 * DAY_MS, 500 * DAY_MS
BEFORE_MS = 300 * DAY_MS


@pytest.fixture
def log(database: Database) -> EventLog:
    return EventLog(database)


@pytest.fixture
def retention(database: Database) -> EventRetention:
    return EventRetention(database)


def prune(retention: EventRetention) -> int:
    total = 0
    while deleted := retention.prune(BEFORE_MS):
        total += deleted
    return total


def kept(log: EventLog) -> list[str]:
    ids: list[str] = log.read(columns=["event_id"]).events["event_id"].to_pylist()
    return ids


def test_a_reader_from_the_beginning_gets_what_is_left(
    log: EventLog, retention: EventRetention
) -> None:
    log.write([event("a"), event("b")], OLD_MS)
    log.write([event("c")], NEW_MS)
    prune(retention)
    batch = log.read(0, limit=10)
    assert batch.events["event_id"].to_pylist() == ["c"]
    assert batch.through_seq == 3


def test_what_a_consumer_has_not_taken_is_kept_until_it_is_forgotten(
    database: Database, log: EventLog, retention: EventRetention
) -> None:
    log.write([event("a"), event("b"), event("c")], OLD_MS)
    with database.writing() as connection:
        save_position(connection, "slow", 1)
        save_position(connection, "quick", 3)
    assert retention.old(BEFORE_MS).held_back == (Backlog("slow", 1),)
    assert prune(retention) == 1
    assert kept(log) == ["b", "c"]
    assert log.position("slow") == 1
    assert log.read(log.position("slow")).events["event_id"].to_pylist() == ["b", "c"]
    assert retention.forget("slow")
    assert not retention.forget("slow")
    assert prune(retention) == 2
    assert log.position("quick") == 3


def test_a_click_outlives_its_impression_and_counts_once(
    database: Database, log: EventLog, retention: EventRetention
) -> None:
    ledger = SlotLedger(database)
    ledger.hold([page("p1", "i1")], OLD_MS)
    log.write([shown("a", "p1")], OLD_MS)
    log.write([shown("b", "p1", kind="click")], NEW_MS)
    prune(retention)
    assert ledger.audit() == []
    assert (ledger.counts()["c1"].confirmed, ledger.counts()["c1"].clicks) == (1, 1)


moments = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["impression", "click"]), st.booleans()),
    max_size=12,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moments, st.integers(1, 4))
def test_whatever_is_recorded_and_deleted_the_ledger_recounts_right(
    tmp_path: Path, recorded: list[tuple[int, str, bool]], together: int
) -> None:
    database = Database.for_writing("", tmp_path / "some.db")
    unique = id(recorded)
    try:
        log, ledger, retention = EventLog(database), SlotLedger(database), EventRetention(database)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(event_retention, "_OLDEST", event_retention._OLDEST.limit(together))
            for number, (request, kind, old) in enumerate(recorded):
                at_ms = OLD_MS if old else NEW_MS
                ledger.hold([page(f"p{unique}-{request}", "i1")], at_ms)
                name = f"e{unique}-{number}"
                log.write([shown(name, f"p{unique}-{request}", kind=kind)], at_ms)
                prune(retention)
                assert ledger.audit() == []
    finally:
        database.close()
