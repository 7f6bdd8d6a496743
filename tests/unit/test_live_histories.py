from __future__ import annotations

import pyarrow as pa

from recmesh.orchestrator.live_histories import LiveHistories
from recmesh.orchestrator.user_store import HISTORY_LENGTH, UserProfile
from recmesh.storage.interchange import EVENT_TYPES, TIMESTAMP

CLICK = EVENT_TYPES["click"]
READER = UserProfile(
    "reader",
    True,
    consents_personalisation=True,
    history_item_ids=("i0",),
    history_event_types=(CLICK,),
    history_times_unix_s=(5,),
)


def events(*rows: tuple[str, str, str, int]) -> pa.Table:
    """User, item, type and second of each."""
    users, items, types, seconds = zip(*rows, strict=True)
    times = pa.array([1000 * s for s in seconds], pa.int64()).cast(TIMESTAMP)
    return pa.table({"user_id": users, "item_id": items, "event_type": types, "received_at": times})


def test_events_follow_what_was_ingested() -> None:
    histories = LiveHistories()
    histories.take(events(("reader", "i1", "click", 7), ("other", "i2", "click", 8)))
    histories.take(events(("reader", "i3", "save", 9)))
    known = histories.added_to(READER, erased=False)
    assert known.history_item_ids == ("i0", "i1", "i3")
    assert known.history_event_types == (CLICK, CLICK, EVENT_TYPES["save"])
    assert known.history_times_unix_s == (5, 7, 9)


def test_impressions_and_searches_are_no_history() -> None:
    histories = LiveHistories()
    histories.take(events(("reader", "i1", "impression", 7), ("reader", "", "search", 8)))
    assert histories.added_to(READER, erased=False) is READER


def test_the_newest_are_kept() -> None:
    histories = LiveHistories()
    histories.take(events(*(("reader", f"n{n}", "click", n) for n in range(HISTORY_LENGTH))))
    known = histories.added_to(READER, erased=False)
    assert len(known.history_item_ids) == HISTORY_LENGTH
    assert known.history_item_ids[0] == "n0"
    assert known.history_item_ids[-1] == f"n{HISTORY_LENGTH - 1}"


def test_who_refuses_personalisation_or_was_erased_has_none() -> None:
    histories = LiveHistories()
    histories.take(events(("u", "i1", "click", 7)))
    refusing = UserProfile("u", True)
    assert histories.added_to(refusing, erased=False) is refusing
    stranger = UserProfile("u", False)
    assert histories.added_to(stranger, erased=True) is stranger


def test_who_acts_before_anybody_described_them_is_known_by_that() -> None:
    histories = LiveHistories()
    histories.take(events(("new", "i1", "click", 7)))
    known = histories.added_to(UserProfile("new", False), erased=False)
    assert known.known
    assert known.history_item_ids == ("i1",)
