"""One suite for the log of decisions, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import hashlib

import pytest

from recmesh.storage.campaign_ledger import HoldOutcome, PageWish, SlotLedger, SlotWish
from recmesh.storage.catalog_log import CatalogLog, Erase
from recmesh.storage.compressed_record import compressed, decompressed
from recmesh.storage.database import Database
from recmesh.storage.decision_log import READ_TOGETHER, DecisionLog, DecisionSpan
from recmesh.storage.errors import DataError
from recmesh.v1.decision_log_pb2 import SealedDecision
from recmesh.v1.decision_record_pb2 import DecisionRecord

NOW_MS = 1_760_000_000_123
ALL = DecisionSpan()


@pytest.fixture
def log(database: Database) -> DecisionLog:
    return DecisionLog(database)


def decision(
    request_id: str,
    text: str = "",
    *,
    key: str = "",
    user_id: str = "u1",
    surface: str = "feed",
    made_at_ms: int = NOW_MS,
    items: tuple[str, ...] = (),
) -> SealedDecision:
    record = DecisionRecord(request_id=request_id, surface_policy=text)
    record.catalog.item_ids.extend(items)
    return SealedDecision(
        decision_id=hashlib.blake2b((key or request_id).encode(), digest_size=16).digest(),
        request_id=request_id,
        user_id=user_id,
        surface=surface,
        made_at_unix_ms=made_at_ms,
        of_users=surface == "network",
        record=compressed(record),
    )


def texts(log: DecisionLog, request_id: str) -> list[str]:
    return [decompressed(found.record).surface_policy for found in log.of_request(request_id)]


def test_a_decision_is_kept_once_as_it_came_last(log: DecisionLog) -> None:
    log.write([decision("r1", "first"), decision("r2", "other")], 0, NOW_MS)
    log.write([decision("r1", "second"), decision("r1", "third")], 0, NOW_MS)
    assert texts(log, "r1") == ["third"]
    assert texts(log, "r2") == ["other"]
    assert texts(log, "unknown") == []
    assert log.count(ALL) == 2


def test_the_decisions_of_a_request_come_as_they_were_made(log: DecisionLog) -> None:
    later = decision("r1", "later", key="a", made_at_ms=NOW_MS + 5)
    log.write([later, decision("r1", "earlier", key="b")], 0, NOW_MS)
    assert texts(log, "r1") == ["earlier", "later"]


def test_a_span_is_read_in_parts_and_completely(log: DecisionLog) -> None:
    n = READ_TOGETHER * 2 + 1
    many = [
        decision(f"r{i}", surface="feed" if i % 2 else "swipe", made_at_ms=NOW_MS + i)
        for i in range(n)
    ]
    log.write(many, 0, NOW_MS)
    assert [found.request_id for found in log.read(ALL)] == [f"r{i}" for i in range(n)]
    some = DecisionSpan(NOW_MS + 10, NOW_MS + 20, "swipe")
    assert [found.request_id for found in log.read(some)] == [f"r{i}" for i in range(10, 20, 2)]
    assert log.count(some) == 5


def test_what_was_lost_is_counted(log: DecisionLog) -> None:
    assert log.lost(ALL) == 0
    log.write([], 3, NOW_MS)
    log.write([decision("r1")], 4, NOW_MS + 1)
    assert log.lost(ALL) == 7
    assert log.lost(DecisionSpan(NOW_MS + 1)) == 4


def test_old_decisions_are_pruned_some_at_a_time(log: DecisionLog) -> None:
    n = READ_TOGETHER + 10
    log.write([decision(f"r{i}", made_at_ms=NOW_MS + i) for i in range(n)], 1, NOW_MS)
    assert log.prune(NOW_MS) == 0
    assert log.prune(NOW_MS + n - 1) == READ_TOGETHER
    assert log.prune(NOW_MS + n - 1) == 9
    assert log.prune(NOW_MS + n - 1) == 0
    assert [found.request_id for found in log.read(ALL)] == [f"r{n - 1}"]
    assert log.lost(ALL) == 0


def test_decisions_go_with_their_user_and_do_not_come_back(
    log: DecisionLog, database: Database
) -> None:
    mine = decision("r1", user_id="u1")
    log.write([mine, decision("r2", user_id="u2")], 0, NOW_MS)
    catalog = CatalogLog(database)
    catalog.write([Erase(["u1"])])
    assert [found.request_id for found in log.read(ALL)] == ["r2"]
    assert catalog.rows_of_users(["u1", "u2"])["decisions"] == 1
    log.write([mine], 0, NOW_MS)
    assert log.of_request("r1") == []


def test_decisions_go_with_a_user_whom_they_recommend(log: DecisionLog) -> None:
    log.write(
        [
            decision("r1", surface="network", items=("u7", "u8")),
            decision("r2", surface="network", items=("u8",)),
            decision("r3", surface="feed", items=("u7",)),
        ],
        0,
        NOW_MS,
    )
    assert log.candidates_left(["u7"]) == 1
    log.erase_candidates(["u7"])
    assert log.candidates_left(["u7"]) == 0
    assert [found.request_id for found in log.read(ALL)] == ["r2", "r3"], "a feed's are no users"


def test_a_page_is_kept_in_the_transaction_that_holds_all_its_slots(
    log: DecisionLog, database: Database
) -> None:
    ledger = SlotLedger(database)

    def page(request_id: str, *budgets: int) -> PageWish:
        slots = [SlotWish(f"i{n}", f"c{budget}", budget, 9) for n, budget in enumerate(budgets)]
        return PageWish(request_id, "u1", slots, decision(request_id))

    held, spent = HoldOutcome.HELD, HoldOutcome.SPENT
    pages = [page("r1", 5, 7), page("r2", 5, 0), page("r3", 0)]
    assert ledger.hold(pages, NOW_MS) == [[held, held], [held, spent], [spent]]
    assert [found.request_id for found in log.read(ALL)] == ["r1"]


def test_damaged_records_are_refused() -> None:
    whole = compressed(DecisionRecord(request_id="r1" * 100))
    assert decompressed(whole).request_id == "r1" * 100
    for bad in (b"", whole[:-3], b"\xff" * 8, whole[:4] + b"abc"):
        with pytest.raises(DataError):
            decompressed(bad)
