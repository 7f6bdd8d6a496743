"""Rows by keys: exactly those, and, on SQLite, never by reading a whole table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from recmesh.storage.campaign_ledger import PageWish, SlotLedger, SlotWish
from recmesh.storage.catalog_log import CatalogLog, Delete
from recmesh.storage.catalog_tables import METADATA, TABLES
from recmesh.storage.database import MOST_PARAMETERS, Database
from recmesh.storage.event_log import CheckedEvent, EventLog
from recmesh.storage.keyed_rows import KeyedRows

NOW_MS = 1_700_000_000_000
EDGES = TABLES["edges"]
KEY = (EDGES.c.source_user_id, EDGES.c.target_user_id)


def event(event_id: str, kind: str = "impression", reason: str = "") -> CheckedEvent:
    row = {
        "caller": "app",
        "event_id": event_id,
        "payload_hash": b"p",
        "event_type": kind,
        "user_id": "u1",
        "item_id": "i1",
        "surface": "feed",
        "time": NOW_MS,
        "dwell_ms": None,
        "rank": 1,
        "query": "",
        "request_id": "r1",
        "campaign_id": "c1",
        "policy_version": "",
        "experiment_arms": "",
    }
    return CheckedEvent(row, b"", reason)


def test_rows_of_the_keys_and_no_others_are_found(database: Database) -> None:
    kept = [(f"u{n}", f"u{n % 7}") for n in range(2 * MOST_PARAMETERS)]
    blank: dict[str, Any] = dict.fromkeys(c.name for c in EDGES.c)
    lookup = KeyedRows([*KEY, EDGES.c.seq], KEY, "seq > ? AND seq <= ?")
    with database.writing() as connection:
        connection.execute(
            sa.insert(EDGES),
            [
                blank
                | {"source_user_id": source, "target_user_id": target, "edge_type": "follow"}
                | {"seq": seq, "deleted": False}
                for seq, (source, target) in enumerate(kept)
            ],
        )
        wanted = [*kept[::2], *((target, source) for source, target in kept[:50:2]), ("u1", "u\"'")]
        found = sorted(row[2] for row in lookup.among(connection, wanted, 10, 900))
        assert list(lookup.among(connection, [], 0, 1)) == []
    assert found == [seq for seq in range(0, len(kept), 2) if 10 < seq <= 900]


@contextmanager
def statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """What the database is asked meanwhile, and with which values."""
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, values: Any, _x: Any, many: bool) -> None:
        asked.append((statement, values[0] if many else values))

    with database.writing() as connection:
        engine = connection.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    yield asked
    sa.event.remove(engine, "before_cursor_execute", note)


def test_no_statement_of_an_event_or_a_hold_reads_a_whole_table(database: Database) -> None:
    log, ledger = EventLog(database), SlotLedger(database)
    with statements(database) as asked:
        wish = PageWish("r1", "u1", [SlotWish("i1", "c1", 100, 3)])
        ledger.hold([wish, PageWish("r2", "u2", wish.slots)], NOW_MS)
        log.write([event("e1"), event("e2", "click"), event("e3", reason="bad")], NOW_MS)
        log.write([event("e1"), event("e3"), event("e4", reason="bad")], NOW_MS)
        ledger.lapse(NOW_MS + 1)
        CatalogLog(database).write(
            [Delete("edges", [("u1", "u2", "follow"), ("u1", "u3", "follow")])]
        )
    asked = [(sql, values) for sql, values in asked if sql.startswith(PLANNED)]
    assert len(asked) > 20
    with database.writing() as connection:
        if connection.dialect.name == "sqlite":  # PostgreSQL reads small tables whole, and rightly.
            for sql, values in asked:
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all()
                scans = {row[3].split()[1] for row in plan if row[3].startswith("SCAN ")}
                assert not scans & set(METADATA.tables) - OF_ONE_ROW, (sql, plan)


PLANNED = ("SELECT", "INSERT", "UPDATE", "DELETE")
OF_ONE_ROW = {"event_head", "catalog_head"}
