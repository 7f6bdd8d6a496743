"""The event log: what users did, durable, in order, each event once.

Every event gets the next sequence number in the transaction that makes it durable, and numbers
become visible in their order, because a transaction holds the head's row while it gives them out.
A consumer that has taken everything up to a number asks for what came after it, and saves its
position in the transaction that saves its own state: what it counts, it counts once. Sponsored
slots are confirmed in the event's own transaction (:mod:`recmesh.storage.campaign_ledger`).
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from recmesh.storage import campaign_slots
from recmesh.storage.catalog_tables import ERASED_USERS, HEAD
from recmesh.storage.database import Database
from recmesh.storage.erased_users import id_hash
from recmesh.storage.event_tables import (
    CONSUMER_POSITIONS,
    EVENT_HEAD,
    EVENTS,
    IS_SLOT,
    QUARANTINED,
)
from recmesh.storage.interchange import TIMESTAMP
from recmesh.storage.keyed_rows import KeyedRows
from recmesh.storage.row_statement import RowStatement

Row: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, str]

PAYLOAD_DIFFERS = "payload differs from the event that has this id"
ERASED = "names a user who was erased; nothing of it is kept"

COLUMNS = pa.schema(
    [
        ("seq", pa.int64()),
        ("caller", pa.string()),
        ("event_id", pa.string()),  # unique per caller
        ("user_id", pa.string()),
        ("item_id", pa.string()),  # empty for searches; a user or an author for follows
        ("event_type", pa.string()),  # a key of interchange.EVENT_TYPES
        ("time", TIMESTAMP),  # by the client's clock
        ("received_at", TIMESTAMP),  # by the server's, when it first came
        ("surface", pa.string()),
        ("rank", pa.int32()),  # from 1; 0: unknown
        ("dwell_s", pa.float32()),  # null: unknown
        ("query", pa.string()),
        ("request_id", pa.string()),  # of the page that showed the item; empty: no page did
        ("campaign_id", pa.string()),  # of the slot on that page; empty: not sponsored
        ("policy_version", pa.string()),  # that made that page
        # JSON object of arms by experiment that the page took part in; empty: in none
        ("experiment_arms", pa.string()),
        # false: a page's impression of the item counted before, or its sponsored slot's click
        ("counted", pa.bool_()),
    ]
)
"""What is read of an event; the names are the interchange format's where it has them."""


# Made once: making a statement costs more than a small transaction may.
_LOCKED_HEAD = sa.select(EVENT_HEAD.c.seq).with_for_update()
_MOVE_HEAD = sa.update(EVENT_HEAD).values(seq=sa.bindparam("to"))
_INSERT = RowStatement(lambda insert: insert(EVENTS))
_ERASED = KeyedRows([ERASED_USERS.c.id_hash], [ERASED_USERS.c.id_hash])
_RECORDED = KeyedRows(
    [EVENTS.c.caller, EVENTS.c.event_id, EVENTS.c.payload_hash],
    [EVENTS.c.caller, EVENTS.c.event_id],
)
_SLOT = (EVENTS.c.request_id, EVENTS.c.item_id)
_COUNTED = KeyedRows(_SLOT, _SLOT, str(IS_SLOT))
# Joined rather than asked for by keys: nearly always there is none.
_RELEASED = (
    sa.select(EVENTS.c.seq, QUARANTINED)
    .select_from(
        sa.join(
            EVENTS,
            QUARANTINED,
            (QUARANTINED.c.caller == EVENTS.c.caller)
            & (QUARANTINED.c.event_id == EVENTS.c.event_id)
            & (QUARANTINED.c.payload_hash == EVENTS.c.payload_hash),
        )
    )
    .where(EVENTS.c.seq > sa.bindparam("after"))
)


class Status(enum.Enum):
    """What became of an event."""

    ACCEPTED = enum.auto()
    DUPLICATE = enum.auto()
    QUARANTINED = enum.auto()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an event, and why where it was quarantined."""

    status: Status
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CheckedEvent:
    """An event to record."""

    row: Row
    """Columns of the log but ``seq``, ``received_at``, ``counted``. Of a bad event only ``caller``,
    ``event_id``, ``payload_hash``, ``user_id`` and ``item_id`` are needed."""
    event: bytes
    """As it came."""
    reason: str = ""
    """Why it is to be quarantined; empty: it is good."""

    @property
    def key(self) -> Key:
        """Identifies the event."""
        return self.row["caller"], self.row["event_id"]


@dataclass(frozen=True)
class EventBatch:
    """Events of a range of sequence numbers, oldest first."""

    through_seq: int
    """The last number of the range: the position of who has taken the batch."""
    head_seq: int
    """The last number given when this was read; above ``through_seq``: there is more."""
    events: pa.Table
    """Of :data:`COLUMNS`, or of some of them."""


@dataclass(frozen=True, slots=True)
class QuarantinedEvent:
    """An event that was kept aside."""

    caller: str
    event_id: str
    payload_hash: bytes
    received_at_ms: int
    reason: str
    event: bytes
    """The ``recmesh.v1.Event`` as it came."""


def save_position(connection: sa.Connection, consumer: str, seq: int) -> None:
    """Says, within the transaction that saves a consumer's state, which event was the last in it.

    ``connection`` is one of :meth:`~recmesh.storage.database.Database.writing`.
    """
    insert: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(CONSUMER_POSITIONS).values(consumer=consumer, seq=seq)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["consumer"], set_={"seq": seq})
    )


class EventLog:
    """Writes and reads the log. Calls block: make them in a thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._salt: bytes | None = None

    def write(self, events: Sequence[CheckedEvent], received_at_ms: int) -> list[Outcome]:
        """Records events in one transaction, in order; durable once this returns.

        An event that the log has with the same payload is a duplicate whatever else is true of
        it now; with another payload it is quarantined. A quarantined event that comes again and
        is good now leaves the quarantine and keeps the time when it was first received.

        Raises:
            UnavailableError: the database failed; none was recorded.
        """
        if self._salt is None:
            with self._database.reading() as connection:
                self._salt = bytes(connection.execute(sa.select(HEAD.c.erasure_salt)).scalar_one())
        with self._database.writing() as connection:
            return _Transaction(connection, self._salt, events, received_at_ms).record()

    def read(
        self, after_seq: int = 0, *, limit: int | None = None, columns: Sequence[str] | None = None
    ) -> EventBatch:
        """The events after ``after_seq``, oldest first.

        Args:
            after_seq: the last event known.
            limit: events at most.
            columns: of :data:`COLUMNS`; default: all.

        Raises:
            UnavailableError: the database does not answer.
        """
        names = columns if columns is not None else COLUMNS.names
        taken = [EVENTS.c["dwell_ms" if name == "dwell_s" else name] for name in names]
        with self._database.reading() as connection:
            head_seq = connection.execute(sa.select(EVENT_HEAD.c.seq)).scalar_one()
            if head_seq <= after_seq:
                # Whoever follows looks several times a second, and mostly finds nothing.
                return EventBatch(after_seq, head_seq, _no_rows(tuple(names)))
            rows = connection.execute(
                sa.select(*taken, EVENTS.c.seq.label("last_seq"))
                .where(EVENTS.c.seq > after_seq)
                .order_by(EVENTS.c.seq)
                .limit(limit)
            ).all()
        full = limit is not None and len(rows) == limit
        through_seq = rows[-1].last_seq if full and rows else head_seq
        return EventBatch(through_seq, head_seq, _arrow(names, rows))

    def position(self, consumer: str) -> int:
        """The last event that the consumer's state holds; 0: none."""
        with self._database.reading() as connection:
            found = connection.execute(
                sa.select(CONSUMER_POSITIONS.c.seq).where(CONSUMER_POSITIONS.c.consumer == consumer)
            ).scalar_one_or_none()
        return int(found or 0)

    def quarantined(
        self, *, limit: int, caller: str = "", after: QuarantinedEvent | None = None
    ) -> list[QuarantinedEvent]:
        """Events that were kept aside, oldest first.

        Args:
            limit: events at most.
            caller: only whose; empty: everybody's.
            after: the last one of the page before.
        """
        order = (
            QUARANTINED.c.received_at,
            QUARANTINED.c.caller,
            QUARANTINED.c.event_id,
            QUARANTINED.c.payload_hash,
        )
        wanted = sa.select(QUARANTINED).order_by(*order).limit(limit)
        if caller:
            wanted = wanted.where(QUARANTINED.c.caller == caller)
        if after is not None:
            place = (after.received_at_ms, after.caller, after.event_id, after.payload_hash)
            wanted = wanted.where(sa.tuple_(*order) > sa.tuple_(*map(sa.literal, place)))
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
        return [
            QuarantinedEvent(
                caller=r.caller,
                event_id=r.event_id,
                payload_hash=bytes(r.payload_hash),
                received_at_ms=r.received_at,
                reason=r.reason,
                event=bytes(r.event),
            )
            for r in rows
        ]

    def count_quarantined(self) -> dict[str, int]:
        """How many events are kept aside, by reason, most first."""
        count = sa.func.count()
        with self._database.reading() as connection:
            rows = connection.execute(
                sa.select(QUARANTINED.c.reason, count)
                .group_by(QUARANTINED.c.reason)
                .order_by(count.desc())
            ).all()
        return {row[0]: row[1] for row in rows}


def _arrow(names: Sequence[str], rows: Sequence[Any]) -> pa.Table:
    by_column = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    columns = {}
    for name, values in zip(names, by_column, strict=False):
        kind = COLUMNS.field(name).type
        if kind == TIMESTAMP:
            columns[name] = pa.array(values, pa.int64()).cast(TIMESTAMP)
        elif name == "dwell_s":
            seconds = [None if value is None else value / 1000 for value in values]
            columns[name] = pa.array(seconds, kind)
        else:
            columns[name] = pa.array(values, kind)
    return pa.table(columns)


@functools.lru_cache
def _no_rows(names: tuple[str, ...]) -> pa.Table:
    return _arrow(names, [])


class _Transaction:
    """Records events over one connection, giving out sequence numbers."""

    def __init__(
        self,
        connection: sa.Connection,
        salt: bytes,
        events: Sequence[CheckedEvent],
        received_at_ms: int,
    ) -> None:
        self._connection = connection
        self._salt = salt
        self._events = events
        self._received_at_ms = received_at_ms
        # Held until the commit, so that numbers become visible in their order and no user is
        # erased between the look for erased users and the insertion.
        self._seq = int(connection.execute(_LOCKED_HEAD).scalar_one())

    def record(self) -> list[Outcome]:
        erased = self._erased()
        recorded = self._recorded()
        outcomes: list[Outcome] = []
        accepted: list[CheckedEvent] = []
        aside: dict[tuple[Key, bytes], tuple[CheckedEvent, str]] = {}
        for event in self._events:
            payload = event.row["payload_hash"]
            if event.row["user_id"] in erased or event.row["item_id"] in erased:
                outcomes.append(Outcome(Status.QUARANTINED, ERASED))
                continue
            known = recorded.get(event.key)
            if known == payload:
                outcomes.append(Outcome(Status.DUPLICATE))
                continue
            reason = PAYLOAD_DIFFERS if known is not None else event.reason
            if reason:
                outcomes.append(Outcome(Status.QUARANTINED, reason))
                aside[event.key, payload] = event, reason
            else:
                outcomes.append(Outcome(Status.ACCEPTED))
                recorded[event.key] = payload
                accepted.append(event)
        if accepted:
            self._insert(accepted)
        if aside:
            self._put_aside(aside.values())
        return outcomes

    def _erased(self) -> set[str]:
        ids = {event.row[name] for event in self._events for name in ("user_id", "item_id")}
        by_hash = {id_hash(self._salt, id_): id_ for id_ in ids}
        found = _ERASED.among(self._connection, zip(by_hash))
        return {by_hash[row.id_hash] for row in found}

    def _recorded(self) -> dict[Key, bytes]:
        """Payloads of those of the events that the log has."""
        keys = dict.fromkeys(event.key for event in self._events)
        found = _RECORDED.among(self._connection, keys)
        return {(row.caller, row.event_id): row.payload_hash for row in found}

    def _insert(self, accepted: Sequence[CheckedEvent]) -> None:
        before_seq = self._seq
        slots = {slot for event in accepted if (slot := _slot(event.row))}
        counted = {(row.request_id, row.item_id) for row in _COUNTED.among(self._connection, slots)}
        rows = []
        for event in accepted:
            self._seq += 1
            slot = _slot(event.row)
            rows.append(
                event.row
                | {
                    "seq": self._seq,
                    "received_at": self._received_at_ms,
                    "counted": slot not in counted,
                }
            )
            if slot is not None:
                counted.add(slot)
        campaign_slots.record(self._connection, rows, self._received_at_ms)
        _INSERT.execute(self._connection, rows)
        self._connection.execute(_MOVE_HEAD, {"to": self._seq})
        self._release(before_seq)

    def _release(self, after_seq: int) -> None:
        """Takes events recorded just now out of the quarantine, and keeps when they came first."""
        released = self._connection.execute(_RELEASED, {"after": after_seq}).all()
        if not released:
            return
        self._connection.execute(
            sa.update(EVENTS)
            .where(EVENTS.c.seq == sa.bindparam("at"))
            .values(received_at=sa.bindparam("first")),
            [{"at": row.seq, "first": row.received_at} for row in released],
        )
        key = QUARANTINED.primary_key.columns
        self._connection.execute(
            sa.delete(QUARANTINED).where(*(c == sa.bindparam(f"of_{c.name}") for c in key)),
            [{f"of_{c.name}": getattr(row, c.name) for c in key} for row in released],
        )

    def _put_aside(self, found: Iterable[tuple[CheckedEvent, str]]) -> None:
        insert: Any = (
            postgresql.insert if self._connection.dialect.name == "postgresql" else sqlite.insert
        )
        statement = insert(QUARANTINED)
        copied = ("caller", "event_id", "payload_hash", "user_id", "item_id")
        rows = [
            {name: event.row[name] for name in copied}
            | {"received_at": self._received_at_ms, "reason": reason, "event": event.event}
            for event, reason in found
        ]
        self._connection.execute(
            statement.on_conflict_do_update(
                index_elements=[c.name for c in QUARANTINED.primary_key.columns],
                set_={"reason": statement.excluded.reason},
            ),
            rows,
        )


def _slot(row: Row) -> Key | None:
    """The slot of a page whose impression may count once; None: the event is no such."""
    if row["event_type"] == "impression" and row["request_id"]:
        return row["request_id"], row["item_id"]
    return None
