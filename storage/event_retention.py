"""Deletes events that were kept long enough, and keeps the campaigns' counts right.

What an event counted stays counted: its campaign's numbers do not fall, they only can no longer be
recounted (:meth:`~recmesh.storage.campaign_ledger.SlotLedger.audit` knows how many those are).
Consumers' positions stay right, for numbers are never given anew, and what a consumer has not
taken yet is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from recmesh.storage import campaign_slots
from recmesh.storage.campaign_tables import CAMPAIGN_SLOTS, CONFIRMED
from recmesh.storage.database import Database
from recmesh.storage.event_tables import CONSUMER_POSITIONS, EVENTS, QUARANTINED

TOGETHER = 500
"""Events deleted in one transaction: others wait for it."""

_TAKEN = sa.select(sa.func.min(CONSUMER_POSITIONS.c.seq)).scalar_subquery()
_OLDEST = (
    sa.select(EVENTS.c.seq, EVENTS.c.received_at)
    .where(sa.or_(_TAKEN.is_(None), EVENTS.c.seq <= _TAKEN))
    .order_by(EVENTS.c.seq)
    .limit(TOGETHER)
)
_FORGET_QUARANTINED = sa.delete(QUARANTINED).where(
    *(c == sa.bindparam(f"of_{c.name}") for c in QUARANTINED.primary_key.columns)
)


@dataclass(frozen=True, slots=True)
class Backlog:
    """A consumer that has not taken all of what is old."""

    consumer: str
    seq: int
    """The last event that it has taken."""


@dataclass(frozen=True, slots=True)
class OldEvents:
    """What was received before a moment."""

    recorded: int
    quarantined: int
    held_back: tuple[Backlog, ...]
    """Who keeps some of it from being deleted."""


class EventRetention:
    """Prunes the event log. Calls block: make them in a thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def prune(self, before_unix_ms: int) -> int:
        """Deletes some of the events received before a moment; returns how many.

        Oldest first, and :data:`TOGETHER` at most: call it until it returns 0. An event whose id
        is gone could be recorded again: keep events longer than late ones are believed.

        Raises:
            UnavailableError: the database does not answer; nothing was deleted.
        """
        return self._prune_recorded(before_unix_ms) + self._prune_quarantined(before_unix_ms)

    def old(self, before_unix_ms: int) -> OldEvents:
        """What there is, whether or not it can be deleted yet. Reads the whole log."""
        count, last = sa.func.count(), sa.func.max(EVENTS.c.seq)
        with self._database.reading() as connection:
            recorded, last_seq = connection.execute(
                sa.select(count, last).where(EVENTS.c.received_at < before_unix_ms)
            ).one()
            aside = sa.select(count).where(QUARANTINED.c.received_at < before_unix_ms)
            quarantined = connection.execute(aside).scalar_one()
            behind = connection.execute(
                sa.select(CONSUMER_POSITIONS.c.consumer, CONSUMER_POSITIONS.c.seq)
                .where(CONSUMER_POSITIONS.c.seq < (last_seq or 0))
                .order_by(CONSUMER_POSITIONS.c.seq)
            ).all()
        return OldEvents(int(recorded), int(quarantined), tuple(Backlog(*row) for row in behind))

    def forget(self, consumer: str) -> bool:
        """Forgets a consumer that is gone, so that nothing is kept for it; False: unknown."""
        gone = sa.delete(CONSUMER_POSITIONS).where(CONSUMER_POSITIONS.c.consumer == consumer)
        with self._database.writing() as connection:
            return bool(connection.execute(gone).rowcount)

    def _prune_recorded(self, before_unix_ms: int) -> int:
        with self._database.reading() as connection:
            oldest = connection.execute(_OLDEST).all()
        old = [row.seq for row in oldest if row.received_at < before_unix_ms]
        if not old:
            return 0
        those = EVENTS.c.seq.in_(old)
        with self._database.writing() as connection:
            campaign_slots.lock(connection)
            campaign_slots.forget(connection, EVENTS, those)
            shown = sa.select(EVENTS.c.request_id, EVENTS.c.item_id).where(
                those, campaign_slots.counted_events("impression")
            )
            connection.execute(
                sa.delete(CAMPAIGN_SLOTS).where(
                    CAMPAIGN_SLOTS.c.state == CONFIRMED,
                    sa.tuple_(CAMPAIGN_SLOTS.c.request_id, CAMPAIGN_SLOTS.c.item_id).in_(shown),
                )
            )
            connection.execute(sa.delete(EVENTS).where(those))
        return len(old)

    def _prune_quarantined(self, before_unix_ms: int) -> int:
        key = QUARANTINED.primary_key.columns
        old = (
            sa.select(*(column.label(f"of_{column.name}") for column in key))
            .where(QUARANTINED.c.received_at < before_unix_ms)
            .limit(TOGETHER)
        )
        with self._database.reading() as connection:
            if connection.execute(old.limit(1)).first() is None:
                return 0
        with self._database.writing() as connection:
            keys = [row._asdict() for row in connection.execute(old).all()]
            if keys:
                connection.execute(_FORGET_QUARANTINED, keys)
        return len(keys)
