"""Changes of sponsored slots and of their counts, together in one transaction.

Whoever changes slots holds the event log's head until the commit (:func:`lock`): events confirm
slots, so that one order serves both, and no budget is overdrawn, whatever number of threads and
writers there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import sqlalchemy as sa

from recmesh.storage.campaign_tables import CAMPAIGN_COUNTS, CAMPAIGN_SLOTS, CONFIRMED, LAPSED, OPEN
from recmesh.storage.event_tables import EVENT_HEAD, EVENTS
from recmesh.storage.keyed_rows import KeyedRows
from recmesh.storage.row_statement import RowStatement

Row: TypeAlias = dict[str, Any]
SlotKey: TypeAlias = tuple[str, str]
"""Request and item."""

COUNTED_TYPES = {"impression": "confirmed", "click": "clicks"}
"""Events that count for a campaign, and as what."""

# Made once: making a statement costs more than a small transaction may.
_LOCK = sa.select(EVENT_HEAD.c.seq).with_for_update()
_KNOWN = KeyedRows(list(CAMPAIGN_SLOTS.c), [CAMPAIGN_SLOTS.c.request_id, CAMPAIGN_SLOTS.c.item_id])
_FORGET = sa.delete(CAMPAIGN_SLOTS).where(
    CAMPAIGN_SLOTS.c.request_id == sa.bindparam("of_request"),
    CAMPAIGN_SLOTS.c.item_id == sa.bindparam("of_item"),
)
_COUNTS = [column.name for column in CAMPAIGN_COUNTS.c if column.name != "campaign_id"]


def _save_slots(insert: Any) -> Any:
    statement = insert(CAMPAIGN_SLOTS)
    keys = [column.name for column in CAMPAIGN_SLOTS.primary_key]
    others = {c.name: statement.excluded[c.name] for c in CAMPAIGN_SLOTS.c if c.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=others)


def _move_counts(insert: Any) -> Any:
    statement = insert(CAMPAIGN_COUNTS)
    moved = {name: CAMPAIGN_COUNTS.c[name] + statement.excluded[name] for name in _COUNTS}
    return statement.on_conflict_do_update(index_elements=["campaign_id"], set_=moved)


_SAVE_SLOTS = RowStatement(_save_slots)
_MOVE_COUNTS = RowStatement(_move_counts)


def lock(connection: sa.Connection) -> None:
    """Keeps others from changing slots until the transaction ends. SQLite has one writer anyway."""
    connection.execute(_LOCK).scalar_one()


class SlotChanges:
    """Slots of one transaction as they are to be; :meth:`save` writes them. Needs :func:`lock`."""

    def __init__(self, connection: sa.Connection, keys: Iterable[SlotKey]) -> None:
        """``keys``: of every slot that may change."""
        self._connection = connection
        self._slots: dict[SlotKey, Row] = {
            (row.request_id, row.item_id): row._asdict()
            for row in _KNOWN.among(connection, dict.fromkeys(keys))
        }
        self._changed: set[SlotKey] = set()
        self._forgotten: set[SlotKey] = set()
        self._moved: dict[str, Counter[str]] = {}

    def get(self, key: SlotKey) -> Mapping[str, Any] | None:
        """The slot; None: nobody held it, and no event named it."""
        return self._slots.get(key)

    def hold(self, key: SlotKey, campaign_id: str, user_id: str, at_ms: int) -> None:
        """Opens a slot anew, whatever it was but confirmed."""
        slot = self._changing(key, campaign_id, user_id, at_ms)
        self._close(slot)
        slot |= {"campaign_id": campaign_id, "user_id": user_id, "held_at": at_ms, "state": OPEN}
        self.move(campaign_id, "held", 1)

    def lapse(self, key: SlotKey) -> None:
        """Closes an open slot, and forgets it unless it was clicked: whoever names it later finds
        what a slot is that nobody held."""
        slot = self._slots[key]
        self._close(slot)
        if slot["clicked"]:
            self._changed.add(key)
            slot["state"] = LAPSED
        else:
            del self._slots[key]
            self._forgotten.add(key)

    def confirm(self, event: Mapping[str, Any], at_ms: int) -> None:
        """Takes what a counted impression says of its slot, whatever the slot was before."""
        campaign_id, user_id = event["campaign_id"], event["user_id"]
        slot = self._changing(_key(event), campaign_id, user_id, at_ms)
        self._close(slot)
        slot |= {
            "campaign_id": campaign_id,
            "user_id": user_id,
            "state": CONFIRMED,
            "confirmed_at": at_ms,
        }
        self.move(campaign_id, "confirmed", 1)

    def click(self, event: Mapping[str, Any], at_ms: int) -> bool:
        """Counts a click; False: the slot had one, which counts."""
        slot = self._changing(_key(event), event["campaign_id"], event["user_id"], at_ms)
        if slot["clicked"]:
            return False
        slot["clicked"] = True
        self.move(event["campaign_id"], "clicks", 1)
        return True

    def move(self, campaign_id: str, count: str, by: int) -> None:
        """Moves one of a campaign's counts."""
        self._moved.setdefault(campaign_id, Counter())[count] += by

    def moved(self, campaign_id: str, count: str) -> int:
        """By how much a count has moved in this transaction."""
        moved = self._moved.get(campaign_id)
        return moved[count] if moved else 0

    def _changing(self, key: SlotKey, campaign_id: str, user_id: str, at_ms: int) -> Row:
        self._changed.add(key)
        blank = {
            "request_id": key[0],
            "item_id": key[1],
            "campaign_id": campaign_id,
            "user_id": user_id,
            "held_at": at_ms,
            "confirmed_at": None,
            "state": LAPSED,
            "clicked": False,
        }
        return self._slots.setdefault(key, blank)

    def _close(self, slot: Row) -> None:
        if slot["state"] == OPEN:
            self.move(slot["campaign_id"], "held", -1)

    def save(self) -> None:
        """Writes slots and counts."""
        if self._forgotten:
            forgotten = sorted(self._forgotten)
            self._connection.execute(
                _FORGET, [{"of_request": request, "of_item": item} for request, item in forgotten]
            )
        if self._changed:
            rows = [self._slots[key] for key in sorted(self._changed)]
            _SAVE_SLOTS.execute(self._connection, rows)
        save_counts(self._connection, self._moved)


def save_counts(connection: sa.Connection, moved: Mapping[str, Mapping[str, int]]) -> None:
    """Moves campaigns' counts by so much."""
    rows = [
        {"campaign_id": campaign_id} | {name: by.get(name, 0) for name in _COUNTS}
        for campaign_id, by in sorted(moved.items())
        if any(by.values())
    ]
    if rows:
        _MOVE_COUNTS.execute(connection, rows)


def _key(event: Mapping[str, Any]) -> SlotKey:
    return event["request_id"], event["item_id"]


def is_sponsored(event: Mapping[str, Any]) -> bool:
    """Whether a row of the event log may count for a campaign."""
    return bool(event["campaign_id"]) and event["event_type"] in COUNTED_TYPES


def record(connection: sa.Connection, rows: Iterable[Row], at_ms: int) -> None:
    """Counts what new rows of the event log say, in their transaction, before they are inserted.

    A click of a slot that had one is marked as not counted. ``rows`` have every column.
    """
    sponsored = [row for row in rows if is_sponsored(row) and row["counted"]]
    if not sponsored:
        return
    changes = SlotChanges(connection, (_key(row) for row in sponsored))
    for row in sponsored:
        if row["event_type"] == "impression":
            changes.confirm(row, at_ms)
        else:
            row["counted"] = changes.click(row, at_ms)
    changes.save()


def forget(connection: sa.Connection, table: sa.Table, rows: sa.ColumnElement[bool]) -> None:
    """Keeps the counts right while rows of erased users are deleted from a table.

    Of events that counted, their number stays; slots that were held can never be confirmed.
    """
    if table is CAMPAIGN_SLOTS:
        moved = _grouped(connection, table, rows & (table.c.state == OPEN))
        save_counts(connection, {campaign: {"held": -count} for campaign, count in moved})
    elif table is EVENTS:
        for event_type, name in COUNTED_TYPES.items():
            moved = _grouped(connection, table, rows & counted_events(event_type))
            save_counts(connection, {c: {f"erased_{name}": count} for c, count in moved})


def counted_events(event_type: str) -> sa.ColumnElement[bool]:
    """Events of a type that count for a campaign."""
    return (EVENTS.c.event_type == event_type) & (EVENTS.c.campaign_id != "") & EVENTS.c.counted


def _grouped(
    connection: sa.Connection, table: sa.Table, rows: sa.ColumnElement[bool]
) -> Iterator[tuple[str, int]]:
    count = sa.func.count()
    wanted = sa.select(table.c.campaign_id, count).where(rows).group_by(table.c.campaign_id)
    for campaign_id, number in connection.execute(wanted).all():
        yield campaign_id, int(number)
