"""One suite for the event log on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from recmesh.storage.catalog_log import CatalogLog, Erase, Upsert
from recmesh.storage.database import Database
from recmesh.storage.event_log import (
    COLUMNS,
    ERASED,
    PAYLOAD_DIFFERS,
    CheckedEvent,
    EventLog,
    Outcome,
    Status,
    save_position,
)
from recmesh.storage.event_tables import EVENTS
from tests.conformance.test_catalog_log import user

ACCEPTED, DUPLICATE = Outcome(Status.ACCEPTED), Outcome(Status.DUPLICATE)
NOW_MS = 1_760_000_000_123


def quarantined(reason: str) -> Outcome:
    return Outcome(Status.QUARANTINED, reason)


@pytest.fixture
def log(database: Database) -> EventLog:
    return EventLog(database)


def event(event_id: str, reason: str = "", payload: bytes = b"p", **fields: object) -> CheckedEvent:
    row: dict[str, object] = {
        "caller": "app",
        "event_id": event_id,
        "payload_hash": payload,
        "event_type": "click",
        "user_id": "u1",
        "item_id": "i1",
        "surface": "feed",
        "time": NOW_MS - 5000,
        "dwell_ms": None,
        "rank": 3,
        "query": "",
        "request_id": "",
        "campaign_id": "",
        "policy_version": "",
        "experiment_arms": "",
    }
    return CheckedEvent(row | fields, b"as it came " + payload, reason)


def impression(event_id: str, request_id: str, item_id: str = "i1") -> CheckedEvent:
    return event(
        event_id,
        event_type="impression",
        request_id=request_id,
        item_id=item_id,
        campaign_id="c1",
        policy_version="v1",
    )


def ids(log: EventLog) -> list[str]:
    found: list[str] = log.read(columns=["event_id"]).events["event_id"].to_pylist()
    return found


def test_what_is_recorded_is_read_back(log: EventLog) -> None:
    first = event("e1", dwell_ms=1500, event_type="dwell")
    search = event("e2", query="Ünïcode ☃", event_type="search", item_id="")
    assert log.write([first, search], NOW_MS) == [ACCEPTED] * 2
    batch = log.read()
    assert (batch.through_seq, batch.head_seq) == (2, 2)
    assert batch.events.schema == COLUMNS
    dwell, search_ = batch.events.to_pylist()
    assert dwell["dwell_s"] == 1.5
    assert dwell["received_at"].isoformat() == "2025-10-09T08:53:20.123000+00:00"
    assert (dwell["received_at"] - dwell["time"]).total_seconds() == 5
    assert dwell["counted"]
    assert search_["query"] == "Ünïcode ☃"
    assert search_["dwell_s"] is None
    assert log.read(columns=["event_id", "dwell_s"]).events.column_names == ["event_id", "dwell_s"]


def test_an_empty_log(log: EventLog) -> None:
    batch = log.read()
    assert (batch.through_seq, batch.head_seq, batch.events.num_rows) == (0, 0, 0)
    assert batch.events.schema == COLUMNS
    assert log.write([], NOW_MS) == []
    assert log.quarantined(limit=5) == []


def test_an_event_is_recorded_once_per_caller(log: EventLog) -> None:
    both = [event("e1"), event("e1")]
    assert log.write(both, NOW_MS) == [ACCEPTED, DUPLICATE]
    assert log.write([event("e1"), event("e1", caller="other")], NOW_MS) == [DUPLICATE, ACCEPTED]
    changed = event("e1", payload=b"q")
    assert log.write([changed], NOW_MS) == [quarantined(PAYLOAD_DIFFERS)]
    assert log.write([event("e1")], NOW_MS) == [DUPLICATE]
    assert log.read(columns=["caller", "event_id"]).events.to_pylist() == [
        {"caller": "app", "event_id": "e1"},
        {"caller": "other", "event_id": "e1"},
    ]
    (aside,) = log.quarantined(limit=5)
    assert (aside.reason, aside.event) == (PAYLOAD_DIFFERS, b"as it came q")


def test_a_recorded_event_is_a_duplicate_whatever_is_true_of_it_now(log: EventLog) -> None:
    log.write([event("e1")], NOW_MS)
    assert log.write([event("e1", reason="too late now")], NOW_MS) == [DUPLICATE]
    assert log.quarantined(limit=5) == []


def test_a_quarantined_event_that_is_good_later_is_recorded_as_first_received(
    log: EventLog,
) -> None:
    bad = event("e1", reason="item unknown")
    assert log.write([bad, bad], NOW_MS) == [quarantined("item unknown")] * 2
    assert log.write([event("e1", reason="still")], NOW_MS + 1000) == [quarantined("still")]
    (aside,) = log.quarantined(limit=5)
    assert (aside.reason, aside.received_at_ms) == ("still", NOW_MS)
    assert ids(log) == []
    assert log.write([event("e1")], NOW_MS + 9000) == [ACCEPTED]
    assert log.quarantined(limit=5) == []
    (row,) = log.read().events.to_pylist()
    assert row["received_at"].microsecond == 123_000
    assert row["received_at"].timestamp() == NOW_MS / 1000


def test_a_good_payload_leaves_another_one_of_its_id_in_quarantine(log: EventLog) -> None:
    log.write([event("e1", reason="bad", payload=b"q")], NOW_MS)
    assert log.write([event("e1", payload=b"p")], NOW_MS) == [ACCEPTED]
    assert [found.event for found in log.quarantined(limit=5)] == [b"as it came q"]


def test_a_page_shows_an_item_once(log: EventLog) -> None:
    log.write([impression("e1", "r1"), impression("e2", "r1"), impression("e3", "r2")], NOW_MS)
    log.write([impression("e4", "r1"), impression("e5", "r1", "i2")], NOW_MS)
    click = event("e6", request_id="r1")
    assert log.write([click, event("e7"), impression("e1", "r1")], NOW_MS)[2] == DUPLICATE
    plain = [event("e8", event_type="impression"), event("e9", event_type="impression")]
    log.write(plain, NOW_MS)
    counted = log.read(columns=["event_id", "counted"]).events.to_pylist()
    assert [row["event_id"] for row in counted if not row["counted"]] == ["e2", "e4"]


def test_the_database_itself_refuses_to_count_a_slot_twice(
    database: Database, log: EventLog
) -> None:
    log.write([impression("e1", "r1"), impression("e2", "r1")], NOW_MS)
    with pytest.raises(Exception, match="database failed"), database.writing() as connection:
        connection.execute(sa.update(EVENTS).values(counted=True))


def test_reading_in_pages_is_reading_at_once(log: EventLog) -> None:
    for start in range(0, 50, 10):
        log.write([event(f"e{n}") for n in range(start, start + 10)], NOW_MS)
    seq, seen = 0, []
    while True:
        batch = log.read(seq, limit=7, columns=["event_id"])
        seen += batch.events["event_id"].to_pylist()
        seq = batch.through_seq
        if seq == batch.head_seq:
            break
    assert seen == [f"e{n}" for n in range(50)] == ids(log)
    assert log.read(seq).events.num_rows == 0
    assert log.read(20, limit=0).through_seq == 50
    assert log.read(999).through_seq == 999


def test_quarantine_in_pages_is_quarantine_at_once(log: EventLog) -> None:
    for n in range(25):
        bad = event(f"e{n % 5}", reason="bad", payload=bytes([n]), caller=f"app{n % 2}")
        log.write([bad], NOW_MS + n // 10)
    whole = log.quarantined(limit=100)
    assert len(whole) == 25
    paged = log.quarantined(limit=4)
    while page := log.quarantined(limit=4, after=paged[-1]):
        paged += page
    assert paged == whole
    assert len(log.quarantined(limit=100, caller="app1")) == 12
    assert log.count_quarantined() == {"bad": 25}


def test_a_consumers_position_is_saved_with_its_state_or_not_at_all(
    database: Database, log: EventLog
) -> None:
    assert log.position("ledger") == 0
    with database.writing() as connection:
        save_position(connection, "ledger", 7)
        save_position(connection, "history", 3)

    def fail() -> None:
        with database.writing() as connection:
            save_position(connection, "ledger", 9)
            raise RuntimeError("the consumer's own state could not be saved")

    with pytest.raises(RuntimeError):
        fail()
    assert (log.position("ledger"), log.position("history")) == (7, 3)


def test_an_erased_user_leaves_no_event_and_is_never_recorded_again(
    database: Database, log: EventLog
) -> None:
    catalog = CatalogLog(database)
    catalog.write([Upsert("users", [user("doctor-jekyll")])])
    follow = event("e2", user_id="u2", item_id="doctor-jekyll", event_type="follow")
    log.write([event("e1", user_id="doctor-jekyll"), follow, event("e3")], NOW_MS)
    log.write([event("e4", user_id="doctor-jekyll", reason="bad"), event("e5", "bad")], NOW_MS)
    assert catalog.rows_of_users(["doctor-jekyll"])["events"] == 2
    assert catalog.rows_of_users(["doctor-jekyll"])["quarantined_events"] == 1
    catalog.write([Erase(["doctor-jekyll"])])
    assert set(catalog.rows_of_users(["doctor-jekyll"]).values()) == {0}
    assert ids(log) == ["e3"]
    assert [found.event_id for found in log.quarantined(limit=5)] == ["e5"]
    again = [event("e6", user_id="doctor-jekyll", reason="bad"), event("e7"), follow]
    assert log.write(again, NOW_MS) == [quarantined(ERASED), ACCEPTED, quarantined(ERASED)]
    assert set(catalog.rows_of_users(["doctor-jekyll"]).values()) == {0}


def test_erased_bytes_leave_the_sqlite_file(tmp_path: Path) -> None:
    database = Database.for_writing("", tmp_path / "recmesh.db")
    log = EventLog(database)
    log.write(
        [event("e1", user_id="doctor-jekyll"), event("e2", "bad", user_id="doctor-jekyll")], 1
    )

    def holders() -> list[str]:
        files = tmp_path.glob("recmesh.db*")
        return [found.name for found in files if b"doctor-jekyll" in found.read_bytes()]

    assert holders()
    CatalogLog(database).write([Erase(["doctor-jekyll"])])
    assert holders() == []
    database.close()


def test_threads_take_turns_and_lose_nothing(database: Database, log: EventLog) -> None:
    catalog = CatalogLog(database)

    def record(start: int) -> None:
        for n in range(start, start + 20):
            log.write([event(f"e{n}")], NOW_MS)
            catalog.write([Upsert("users", [user(f"u{n}")])])

    threads = [threading.Thread(target=record, args=(100 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seqs = log.read(columns=["seq"]).events["seq"].to_pylist()
    assert seqs == list(range(1, 81))
    assert catalog.read().tables["users"].num_rows == 80


def test_more_events_than_a_statement_takes(log: EventLog) -> None:
    many = [impression(f"e{n}", f"r{n // 3}", f"i{n % 3}") for n in range(1700)]
    assert log.write(many, NOW_MS) == [ACCEPTED] * 1700
    assert log.write(many, NOW_MS) == [DUPLICATE] * 1700
    assert log.read().events.num_rows == 1700


# Records until the disk is full; then with room again. Says what became of every attempt.
FULL = """
import resource, sys
from pathlib import Path
from recmesh.storage.database import Database
from recmesh.storage.errors import UnavailableError
from recmesh.storage.event_log import EventLog
from tests.conformance.test_event_log import NOW_MS, event

log = EventLog(Database.for_writing("", Path(sys.argv[1])))
def record(n):
    log.write([event(f"e{n}-{part}", query="x" * 500) for part in range(50)], NOW_MS)
    print("ack", n, flush=True)
record(0)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
for n in range(1, 200):
    try:
        record(n)
    except UnavailableError as error:
        print("full", n, error, flush=True)
        if len(log.read(columns=["seq"]).events) == 50 * n:
            break
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
record(n)
record(n + 1)
"""


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, "."])}


def test_a_full_disk_refuses_whole_batches_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    file = tmp_path / "recmesh.db"
    ran = subprocess.run(
        [sys.executable, "-c", FULL, str(file)],
        capture_output=True,
        text=True,
        check=True,
        env=_environment(),
    )
    lines = ran.stdout.splitlines()
    assert any(line.startswith("full") and "database failed" in line for line in lines), lines
    acknowledged = [line.split()[1] for line in lines if line.startswith("ack")]
    assert lines[-1].startswith("ack")
    database = Database.for_writing("", file)
    assert ids(EventLog(database)) == [f"e{n}-{part}" for n in acknowledged for part in range(50)]
    database.close()


# Threads send through group commit until they are killed, each of them the same event again
# when it was not told; every acknowledgement is printed with what it was.
WRITER = r"""
import os, sys, threading
from pathlib import Path
from recmesh.storage.database import Database
from recmesh.storage.event_log import EventLog
from recmesh.storage.group_commit import GroupCommit
from tests.conformance.test_event_log import NOW_MS, impression

log = EventLog(Database.for_writing(sys.argv[1], Path(sys.argv[2])))
def commit(writes):
    outcomes = iter(log.write([event for write in writes for event in write], NOW_MS))
    return [[next(outcomes) for _ in write] for write in writes]
commits = GroupCommit(commit, weight=len, most_together=100)
def send(sender, number):
    while True:
        # Two events of one slot: one of them counts, however often they are sent.
        pair = [impression(f"{sender}-{number}-{part}", f"r{sender}-{number}") for part in "ab"]
        outcomes = commits.submit(pair).result()
        # One write is one line, whichever thread else writes.
        os.write(1, f"{sender} {number} {outcomes[0].status.name}\n".encode())
        number += 1
for sender, number in enumerate(map(int, sys.argv[3].split(","))):
    threading.Thread(target=send, args=(sender, number)).start()
"""
KILLS = 5
SENDERS = 4


def test_kill_9_loses_nothing_acknowledged_and_counts_nothing_twice(
    database_uri: str, tmp_path: Path
) -> None:
    file = tmp_path / "recmesh.db"
    next_numbers = [0] * SENDERS
    for kill in range(KILLS):
        start = ",".join(map(str, next_numbers))
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, database_uri, str(file), start],
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(),
        )
        assert writer.stdout is not None
        for told, line in enumerate(writer.stdout):
            if not line.endswith("\n"):
                break  # Killed within the line: not told.
            sender, number, *_ = line.split()
            next_numbers[int(sender)] = int(number) + 1
            if told == 10 + 17 * kill:
                writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
        writer.stdout.close()
    database = Database.for_writing(database_uri, file)
    rows = EventLog(database).read(columns=["seq", "event_id", "counted"]).events.to_pylist()
    database.close()
    found = [row["event_id"] for row in rows]
    assert len(found) == len(set(found))
    acknowledged = {
        f"{sender}-{number}-{part}"
        for sender, upto in enumerate(next_numbers)
        for number in range(upto)
        for part in "ab"
    }
    assert acknowledged <= set(found)
    assert len(found) - len(acknowledged) <= 2 * SENDERS, "what was not told is one pair each"
    assert [row["event_id"] for row in rows if row["counted"]] == [i for i in found if i[-1] == "a"]
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
