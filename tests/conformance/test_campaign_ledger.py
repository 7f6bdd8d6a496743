"""One suite for the ledger of sponsored slots, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st

from recmesh.storage.campaign_ledger import (
    CAP_PERIOD_MS,
    CampaignCounts,
    Discrepancy,
    HoldOutcome,
    PageWish,
    SavedPrice,
    SlotLedger,
    SlotWish,
)
from recmesh.storage.campaign_tables import (
    CAMPAIGN_COUNTS,
    CAMPAIGN_SLOTS,
    CONFIRMED,
    LAPSED,
    OPEN,
)
from recmesh.storage.catalog_log import CatalogLog, Erase, Upsert
from recmesh.storage.database import MIGRATIONS, Database
from recmesh.storage.event_log import CheckedEvent, EventLog
from recmesh.storage.event_retention import TOGETHER, EventRetention
from recmesh.storage.event_tables import EVENT_HEAD, EVENTS
from recmesh.storage.recorded_traffic import RecordedTraffic
from tests.conformance.test_catalog_log import user
from tests.conformance.test_event_log import NOW_MS, event

HELD, SPENT, CAPPED = HoldOutcome.HELD, HoldOutcome.SPENT, HoldOutcome.CAPPED


@pytest.fixture
def ledger(database: Database) -> SlotLedger:
    return SlotLedger(database)


@pytest.fixture
def log(database: Database) -> EventLog:
    return EventLog(database)


def page(
    request_id: str,
    *items: str,
    user_id: str = "u1",
    campaign: str = "c1",
    budget: int = 100,
    cap: int = 100,
) -> PageWish:
    return PageWish(request_id, user_id, [SlotWish(i, campaign, budget, cap) for i in items])


def shown(
    event_id: str, request_id: str, item: str = "i1", kind: str = "impression", **fields: object
) -> CheckedEvent:
    sponsored = {"campaign_id": "c1", "policy_version": "v1"} | fields
    return event(event_id, event_type=kind, request_id=request_id, item_id=item, **sponsored)


def counts(ledger: SlotLedger, campaign: str = "c1") -> tuple[int, int, int]:
    assert ledger.audit() == []
    found = ledger.counts().get(campaign, CampaignCounts())
    return found.held, found.confirmed, found.clicks


def test_a_slot_is_held_once_and_confirmed_by_its_impression(
    ledger: SlotLedger, log: EventLog
) -> None:
    assert ledger.hold([page("r1", "i1", "i2")], NOW_MS) == [[HELD, HELD]]
    assert ledger.hold([page("r1", "i1", "i1")], NOW_MS + 1) == [[HELD, HELD]]
    assert counts(ledger) == (2, 0, 0)
    log.write([shown("e1", "r1"), shown("e2", "r1"), event("e3", request_id="r9")], NOW_MS)
    assert counts(ledger) == (1, 1, 0)
    log.write([shown("e1", "r1"), shown("e4", "r1")], NOW_MS)
    assert counts(ledger) == (1, 1, 0)
    assert ledger.hold([page("r1", "i1")], NOW_MS) == [[HELD]]
    assert counts(ledger) == (1, 1, 0)


def test_a_click_counts_once_a_slot(ledger: SlotLedger, log: EventLog) -> None:
    ledger.hold([page("r1", "i1")], NOW_MS)
    clicks = [shown(f"e{n}", "r1", kind="click") for n in range(3)]
    log.write(clicks[:2], NOW_MS)
    log.write([*clicks, shown("e9", "r1"), shown("e10", "r2", kind="click")], NOW_MS)
    assert counts(ledger) == (0, 1, 2)
    log.write([shown("e11", "r2")], NOW_MS)
    assert counts(ledger) == (0, 2, 2)
    counted = log.read(columns=["event_id", "counted"]).events.to_pylist()
    assert [row["event_id"] for row in counted if not row["counted"]] == ["e1", "e2"]


def test_no_more_than_the_budget_is_held(ledger: SlotLedger, log: EventLog) -> None:
    pages = [page(f"r{n}", "i1", budget=3) for n in range(5)]
    assert ledger.hold(pages, NOW_MS) == [[HELD]] * 3 + [[SPENT]] * 2
    log.write([shown("e1", "r0")], NOW_MS)
    assert ledger.hold([page("r3", "i1", budget=3)], NOW_MS) == [[SPENT]]
    assert ledger.hold([page("r3", "i1", budget=4)], NOW_MS) == [[HELD]]
    assert ledger.hold([page("r4", "i1", "i2", budget=5)], NOW_MS) == [[HELD, SPENT]]
    assert ledger.hold([page("r0", "i1", budget=0)], NOW_MS) == [[HELD]], "it was shown already"


def test_campaigns_do_not_share_their_budgets(ledger: SlotLedger) -> None:
    both = PageWish("r1", "u1", [SlotWish("i1", "c1", 1, 9), SlotWish("i2", "c2", 1, 9)])
    assert ledger.hold([both], NOW_MS) == [[HELD, HELD]]
    assert counts(ledger) == counts(ledger, "c2") == (1, 0, 0)


def test_a_cap_looks_back_24_hours_from_the_impression(ledger: SlotLedger, log: EventLog) -> None:
    day, first = CAP_PERIOD_MS, NOW_MS - 1000
    assert ledger.hold([page("r1", "i1", "i2", "i3", cap=2)], first) == [[HELD, HELD, CAPPED]]
    assert ledger.hold([page("r2", "i1", cap=2, user_id="u2")], first) == [[HELD]]
    assert ledger.hold([page("r2", "i2", cap=2, campaign="c2")], first) == [[HELD]]
    log.write([shown("e1", "r1"), shown("e2", "r1", "i2")], NOW_MS)
    assert ledger.hold([page("r3", "i1", cap=2)], NOW_MS + day - 1) == [[CAPPED]]
    assert ledger.hold([page("r3", "i1", "i2", "i3", cap=2)], NOW_MS + day) == [
        [HELD, HELD, CAPPED]
    ]


def test_what_lapses_is_free_again_and_what_is_shown_late_counts(
    ledger: SlotLedger, log: EventLog
) -> None:
    assert ledger.hold([page("r1", "i1", "i2", budget=2, cap=2)], NOW_MS) == [[HELD, HELD]]
    assert ledger.lapse(NOW_MS) == 0
    assert ledger.lapse(NOW_MS + 1) == 2
    assert ledger.lapse(NOW_MS + 1) == 0
    assert counts(ledger) == (0, 0, 0)
    assert ledger.hold([page("r2", "i1", budget=2, cap=2)], NOW_MS) == [[HELD]]
    assert ledger.hold([page("r1", "i1", budget=2, cap=2)], NOW_MS + 5) == [[HELD]]
    assert ledger.lapse(NOW_MS + 5) == 1
    assert counts(ledger) == (1, 0, 0)
    late = [shown("e1", "r1", "i2"), shown("e2", "r2"), shown("e3", "r1"), shown("e4", "r9")]
    log.write(late, NOW_MS)
    assert counts(ledger) == (0, 4, 0)
    assert ledger.hold([page("r3", "i1", budget=4)], NOW_MS) == [[SPENT]]


def test_more_slots_lapse_than_one_transaction_takes(
    ledger: SlotLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recmesh.storage.campaign_ledger.MOST_LAPSING", 7)
    ledger.hold([page(f"r{n}", "i1") for n in range(30)], NOW_MS)
    assert ledger.lapse(NOW_MS + 1) == 30
    assert counts(ledger) == (0, 0, 0)


def test_what_lapsed_leaves_no_row_and_clicks_still_count_once(
    database: Database, ledger: SlotLedger, log: EventLog
) -> None:
    ledger.hold([page(f"r{n}", "i1", "i2", user_id=f"u{n}") for n in range(20)], NOW_MS)
    log.write([shown("e1", "r0"), shown("e2", "r1", kind="click")], NOW_MS)
    assert ledger.lapse(NOW_MS + 1) == 39
    with database.reading() as connection:
        rows = connection.execute(sa.select(CAMPAIGN_SLOTS)).all()
    assert sorted((row.request_id, row.state, row.clicked) for row in rows) == [
        ("r0", CONFIRMED, False),
        ("r1", LAPSED, True),
    ]
    assert counts(ledger) == (0, 1, 1)
    log.write([shown("e3", "r1", kind="click"), shown("e4", "r1"), shown("e5", "r2")], NOW_MS)
    assert counts(ledger) == (0, 3, 1)


def test_two_pages_of_one_request_id_count_one_slot(ledger: SlotLedger, log: EventLog) -> None:
    assert ledger.hold([page("r1", "i1", budget=1, cap=1)], NOW_MS) == [[HELD]]
    other = page("r1", "i1", user_id="u2", budget=1, cap=1)
    assert ledger.hold([other], NOW_MS) == [[HELD]]
    assert counts(ledger) == (1, 0, 0)
    assert ledger.hold([page("r1", "i1", campaign="c2")], NOW_MS) == [[HELD]]
    assert counts(ledger) == (0, 0, 0)
    log.write([shown("e1", "r1")], NOW_MS)
    assert counts(ledger) == (0, 1, 0)
    assert counts(ledger, "c2") == (0, 0, 0)
    assert ledger.hold([page("r1", "i1", campaign="c2")], NOW_MS) == [[SPENT]]


def test_an_erased_user_leaves_counts_and_no_slot(
    database: Database, ledger: SlotLedger, log: EventLog
) -> None:
    ledger.hold([page(f"r{n}", "i1", user_id="doctor-jekyll") for n in range(4)], NOW_MS)
    ledger.hold([page("s1", "i1", "doctor-jekyll")], NOW_MS)
    theirs = {"user_id": "doctor-jekyll"}
    log.write(
        [
            *(shown("e0", "r0", **theirs), shown("e1", "r1", **theirs)),
            *(shown("e2", "r0", kind="click", **theirs), shown("e3", "r0", "i1", "click")),
            *(shown("e4", "s1"), shown("e5", "r1", "i1", "click")),
        ],
        NOW_MS,
    )
    assert counts(ledger) == (3, 3, 2)
    catalog = CatalogLog(database)
    catalog.write([Upsert("users", [user("doctor-jekyll")]), Erase(["doctor-jekyll", "u9"])])
    assert set(catalog.rows_of_users(["doctor-jekyll"]).values()) == {0}
    assert counts(ledger) == (0, 3, 2)
    assert ledger.counts()["c1"].erased_confirmed == 2
    assert ledger.hold([page("r9", "i1", user_id="doctor-jekyll")], NOW_MS) == [[CAPPED]]
    log.write([shown("e6", "r2", **theirs), shown("e7", "r0")], NOW_MS)
    assert counts(ledger) == (0, 4, 2)
    catalog.write([Erase(["doctor-jekyll", "u1"])])
    assert counts(ledger) == (0, 4, 2)


def test_erased_bytes_leave_the_sqlite_file(tmp_path: Path) -> None:
    database = Database.for_writing("", tmp_path / "recmesh.db")
    SlotLedger(database).hold([page("r1", "i1", user_id="doctor-jekyll")], NOW_MS)

    def holders() -> list[str]:
        files = tmp_path.glob("recmesh.db*")
        return [found.name for found in files if b"doctor-jekyll" in found.read_bytes()]

    assert holders()
    CatalogLog(database).write([Erase(["doctor-jekyll"])])
    assert holders() == []
    database.close()


def test_the_audit_finds_what_is_wrong(database: Database, ledger: SlotLedger) -> None:
    ledger.hold([page("r1", "i1")], NOW_MS)
    EventLog(database).write([shown("e1", "r2")], NOW_MS)
    with database.writing() as connection:
        connection.execute(sa.update(CAMPAIGN_COUNTS).values(held=3, confirmed=5))
        connection.execute(sa.delete(CAMPAIGN_SLOTS).where(CAMPAIGN_SLOTS.c.state == CONFIRMED))
    assert ledger.audit() == [
        Discrepancy("c1", "held", 3, 1),
        Discrepancy("c1", "confirmed slots", 5, 0),
        Discrepancy("c1", "confirmed events", 5, 1),
    ]


def test_prices_are_what_was_saved_last(ledger: SlotLedger) -> None:
    assert ledger.prices() == []
    first = SavedPrice("c1", NOW_MS, 0.1, 0.2, -0.3, 7, 1.5, 0.5)
    ledger.save_prices([SavedPrice("c0", NOW_MS, 0.0, 0.0, 0.0, 0, 0.0, 0.0), first])
    second = SavedPrice("c1", NOW_MS + 60_000, -0.123456789012345, 0.2, -0.3, 8, 2.5, 0.25)
    ledger.save_prices([second])
    assert ledger.prices() == [second]


def test_traffic_is_counted_by_hour_and_user(database: Database, log: EventLog) -> None:
    none = RecordedTraffic.read(database, -1.0)
    assert (none.hours.tolist(), none.user_ids, none.last_unix_s) == ([], [], 0.0)
    hour_ms, week = 3_600_000, 168
    times = [0, hour_ms - 1, week * hour_ms, (week + 5) * hour_ms]
    log.write(
        [shown(f"e{n}", f"r{n}", time=time, user_id=f"u{n // 3}") for n, time in enumerate(times)],
        NOW_MS,
    )
    log.write([shown("e9", "r9", kind="click", time=0)], NOW_MS)
    found = RecordedTraffic.read(database, -1.0)
    assert dict(zip(found.hours.tolist(), found.in_hour.tolist(), strict=True)) == {0: 3, 5: 1}
    assert dict(zip(found.user_ids, found.of_user.tolist(), strict=True)) == {"u0": 3, "u1": 1}
    assert (found.first_unix_s, found.last_unix_s) == (0.0, (week + 5) * 3600.0)
    assert RecordedTraffic.read(database, 3600.0).in_hour.sum() == 2


def test_threads_never_overdraw(database_uri: str, tmp_path: Path) -> None:
    """Two writers on PostgreSQL, each with threads of its own."""
    file = tmp_path / "recmesh.db"
    writers = [Database.for_writing(database_uri, file) for _ in range(2 if database_uri else 1)]
    ledgers = [SlotLedger(database) for database in writers]
    logs = [EventLog(database) for database in writers]
    granted: list[HoldOutcome] = []

    def work(thread: int) -> None:
        ledger, log = ledgers[thread % len(ledgers)], logs[thread % len(logs)]
        for n in range(15):
            name = f"{thread}-{n}"
            wish = page(name, "i1", user_id=f"u{n % 3}", budget=40, cap=17)
            granted.extend(ledger.hold([wish], NOW_MS)[0])
            if granted[-1] == HELD and n % 2:
                log.write([shown(name, name, user_id=wish.user_id)], NOW_MS)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held, confirmed, _ = counts(ledgers[0])
    assert granted.count(HELD) == 40
    assert held + confirmed == 40
    with writers[0].reading() as connection:
        users = connection.execute(
            sa.select(sa.func.count())
            .select_from(CAMPAIGN_SLOTS)
            .group_by(CAMPAIGN_SLOTS.c.user_id)
        ).scalars()
        assert max(users) <= 17
    for database in writers:
        database.close()


def test_who_asks_at_the_same_moment_shares_one_budget(database_uri: str, tmp_path: Path) -> None:
    """Two writers on PostgreSQL; everybody asks for the same campaign, round by round."""
    file = tmp_path / "recmesh.db"
    writers = [Database.for_writing(database_uri, file) for _ in range(2 if database_uri else 1)]
    start = threading.Barrier(6)
    granted: list[tuple[int, HoldOutcome]] = []

    def work(thread: int) -> None:
        ledger = SlotLedger(writers[thread % len(writers)])
        for n in range(25):
            wish = page(f"{thread}-{n}", "i1", user_id=f"u{thread}", campaign=f"c{n}", budget=2)
            start.wait()
            granted.append((n, ledger.hold([wish], NOW_MS)[0][0]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = Counter(n for n, outcome in granted if outcome is HELD)
    assert held == dict.fromkeys(range(25), 2)
    assert SlotLedger(writers[0]).audit() == []
    for database in writers:
        database.close()


def test_what_was_recorded_before_the_ledger_is_counted(database_uri: str, tmp_path: Path) -> None:
    database = Database.for_writing(database_uri, tmp_path / "recmesh.db")
    log = EventLog(database)
    log.write([shown("e1", "r1"), shown("e2", "r1"), shown("e3", "r1", kind="click")], NOW_MS)
    log.write([shown("e4", "r1", kind="click"), shown("e5", "r2", kind="click")], NOW_MS)
    before = SlotLedger(database).counts()
    with database.writing() as connection:
        recorded = connection.execute(sa.select(EVENTS)).mappings().all()
        tables = sa.MetaData()
        tables.reflect(connection)
        tables.drop_all(connection)
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        earlier = sa.Table("events", sa.MetaData(), autoload_with=connection)
        rows = [{column.name: row[column.name] for column in earlier.c} for row in recorded]
        for row in rows:
            row["counted"] |= row["event_type"] == "click"
        connection.execute(sa.insert(earlier), rows)
        connection.execute(sa.update(EVENT_HEAD).values(seq=len(rows)))
    database.close()
    database = Database.for_writing(database_uri, tmp_path / "recmesh.db")
    ledger = SlotLedger(database)
    assert counts(ledger) == (0, 1, 2)
    assert ledger.counts() == before
    EventLog(database).write([shown("e6", "r2"), shown("e7", "r2", kind="click")], NOW_MS)
    assert counts(ledger) == (0, 2, 2)
    database.close()


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["hold", "hold", "impression", "click", "lapse", "erase"]),
        st.integers(0, 5),  # request
        st.integers(0, 1),  # item
        st.integers(0, 2),  # user
        st.integers(0, 1),  # campaign
        st.integers(0, 20),  # hours later
    ),
    max_size=30,
)
BUDGET, CAP = 3, 2
RUNS = itertools.count()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Made once: examples have ids of their own."""
    opened = Database.for_writing("", tmp_path_factory.mktemp("ledger") / "recmesh.db")
    yield opened
    opened.close()


@settings(deadline=None, max_examples=60)
@given(operations=OPERATIONS)
def test_whatever_happens_counts_are_right_and_nothing_is_overdrawn(
    shared: Database, operations: list[tuple[str, int, int, int, int, int]]
) -> None:
    ledger, log, catalog = SlotLedger(shared), EventLog(shared), CatalogLog(shared)
    run = next(RUNS)
    now_ms, unheld = NOW_MS, {0: 0, 1: 0}
    names = [f"c{k}-{run}" for k in range(2)]
    for step, (kind, request, item, user_, campaign, hours) in enumerate(operations):
        now_ms += hours * 3_600_000
        request_id, item_id, user_id = f"r{request}-{run}", f"i{item}", f"u{user_}-{run}"
        if kind == "hold":
            had = _had(shared, user_id, names[campaign], now_ms)
            wish = page(
                request_id,
                item_id,
                user_id=user_id,
                campaign=names[campaign],
                budget=BUDGET,
                cap=CAP,
            )
            key = (request_id, item_id)
            if ledger.hold([wish], now_ms) == [[HELD]]:
                assert key in had or len(had) < CAP
        elif kind in ("impression", "click"):
            fields = {"campaign_id": names[campaign], "user_id": user_id}
            sent = shown(f"{run}-{step}", request_id, item_id, kind, **fields)
            before = ledger.counts().get(names[campaign], CampaignCounts())
            log.write([sent, sent], now_ms)
            after = ledger.counts().get(names[campaign], CampaignCounts())
            # What comes without a hold of its own is counted beyond what was granted.
            total = after.held + after.confirmed - before.held - before.confirmed
            unheld[campaign] += max(total, 0)
        elif kind == "lapse":
            ledger.lapse(now_ms - 3_600_000)
        else:
            catalog.write([Erase([user_id])])
        for k, name in enumerate(names):
            found = ledger.counts().get(name, CampaignCounts())
            assert found.held >= 0
            assert found.held + found.confirmed <= BUDGET + unheld[k]
    assert ledger.audit() == []


def _had(database: Database, user_id: str, campaign: str, now_ms: int) -> set[tuple[str, str]]:
    """The user's slots that count against the cap, read plainly."""
    with database.reading() as connection:
        rows = connection.execute(sa.select(CAMPAIGN_SLOTS)).all()
    return {
        (row.request_id, row.item_id)
        for row in rows
        if (row.user_id, row.campaign_id) == (user_id, campaign)
        and (
            row.state == OPEN
            or (row.state == CONFIRMED and now_ms - row.confirmed_at < CAP_PERIOD_MS)
        )
    }


def test_events_that_are_old_go_and_what_they_counted_stays(
    ledger: SlotLedger, log: EventLog, database: Database
) -> None:
    retention = EventRetention(database)
    ledger.hold([page("r1", "i1"), page("r2", "i1"), page("r3", "i1")], NOW_MS)
    log.write([shown("e1", "r1"), shown("e2", "r1", kind="click"), shown("bad", "r9")], NOW_MS)
    log.write([event("old"), event("bad", "quarantined", b"other")], NOW_MS)
    log.write([shown("e3", "r2"), event("new"), event("worse", "quarantined")], NOW_MS + 5)
    assert counts(ledger) == (1, 3, 1)
    assert retention.prune(NOW_MS) == 0
    assert retention.prune(NOW_MS + 5) == 5
    assert retention.prune(NOW_MS + 5) == 0
    assert counts(ledger) == (1, 3, 1)
    left = log.read(columns=["seq", "event_id"]).events
    assert left["event_id"].to_pylist() == ["e3", "new"]
    assert left["seq"].to_pylist() == [5, 6]
    assert [one.event_id for one in log.quarantined(limit=9)] == ["worse"]
    log.write([event("next")], NOW_MS + 6)
    assert log.read(after_seq=6).events["event_id"].to_pylist() == ["next"]
    assert ledger.hold([page("r4", "i1", budget=4, cap=9)], NOW_MS + 6) == [[SPENT]]


def test_many_old_events_go_some_at_a_time(log: EventLog, database: Database) -> None:
    retention = EventRetention(database)
    log.write([event(f"e{n}") for n in range(TOGETHER + 3)], NOW_MS)
    assert [retention.prune(NOW_MS + 1) for _ in range(3)] == [TOGETHER, 3, 0]
