"""The ledger of sponsored slots: who got which, on whose behalf, and what campaigns may still have.

A slot is a place of a page that a sponsor pays for, known by the page's request and its item. It
is held before the page shows it, confirmed by the impression that the event log counts, in the
same transaction, and lapses when no impression comes in time: then it is forgotten. An impression
that comes later, or of a slot that nobody held, confirms it all the same: the signed token of its
page vouches for it.
So what the counts say was delivered is what the events say, always; :meth:`SlotLedger.audit`
compares them.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from recmesh.storage.campaign_slots import (
    COUNTED_TYPES,
    SlotChanges,
    SlotKey,
    counted_events,
    lock,
)
from recmesh.storage.campaign_tables import (
    CAMPAIGN_COUNTS,
    CAMPAIGN_PRICES,
    CAMPAIGN_SLOTS,
    CONFIRMED,
    OPEN,
)
from recmesh.storage.catalog_tables import ERASED_USERS, HEAD
from recmesh.storage.database import Database, statement_chunks
from recmesh.storage.decision_log import write_decisions
from recmesh.storage.erased_users import id_hash
from recmesh.storage.event_tables import EVENTS
from recmesh.storage.keyed_rows import KeyedRows
from recmesh.v1.decision_log_pb2 import SealedDecision

CAP_PERIOD_MS = 86_400_000
"""What a day of the frequency cap is: the last 24 hours, wherever the user is."""
MOST_LAPSING = 500
"""Slots that lapse in one transaction: holds wait for it."""

_COUNTS = sa.select(
    CAMPAIGN_COUNTS.c.campaign_id, CAMPAIGN_COUNTS.c.held + CAMPAIGN_COUNTS.c.confirmed
).where(CAMPAIGN_COUNTS.c.campaign_id.in_(sa.bindparam("some", expanding=True)))
_USER = (CAMPAIGN_SLOTS.c.user_id, CAMPAIGN_SLOTS.c.campaign_id)
_HAD = KeyedRows(
    [CAMPAIGN_SLOTS.c.request_id, CAMPAIGN_SLOTS.c.item_id, *_USER],
    _USER,
    f"state = '{OPEN}' OR (state = '{CONFIRMED}' AND confirmed_at > ?)",
)
_ERASED = sa.select(ERASED_USERS.c.id_hash).where(
    ERASED_USERS.c.id_hash.in_(sa.bindparam("some", expanding=True))
)


@dataclass(frozen=True, slots=True)
class SlotWish:
    """A slot to hold, and what its campaign allows."""

    item_id: str
    campaign_id: str
    budget: int
    """Impressions bought."""
    cap_per_day: int
    """Impressions that a user may get in 24 hours."""


@dataclass(frozen=True, slots=True)
class PageWish:
    """The slots to hold for one page."""

    request_id: str
    user_id: str
    slots: Sequence[SlotWish]
    decision: SealedDecision | None = None
    """The page's record, to be kept when all slots are held."""


class HoldOutcome(enum.Enum):
    """What became of a wish."""

    HELD = enum.auto()
    SPENT = enum.auto()
    """All that was bought is delivered or held, or another campaign or user had this very slot."""
    CAPPED = enum.auto()
    """The user had as much of the campaign as its cap allows, or was erased."""


@dataclass(frozen=True, slots=True)
class CampaignCounts:
    """What a campaign has got."""

    held: int = 0
    """Slots shown or about to be, not confirmed yet."""
    confirmed: int = 0
    """Impressions counted by the event log."""
    clicks: int = 0
    """Slots clicked, however often."""
    erased_confirmed: int = 0
    """Part of ``confirmed`` whose events are gone: with erased users, or because of their age."""
    erased_clicks: int = 0
    """Part of ``clicks``, likewise."""


@dataclass(frozen=True, slots=True)
class SavedPrice:
    """The pacer's state of one campaign after its last step."""

    campaign_id: str
    at_ms: int
    price: float
    dual: float
    error: float
    delivered: int
    planned_lately: float
    got_lately: float


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """A count that is not what its rows say."""

    campaign_id: str
    what: str
    counted: int
    recounted: int


class SlotLedger:
    """Writes and reads the ledger. Calls block: make them in a thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._salt: bytes | None = None

    def hold(self, pages: Sequence[PageWish], now_ms: int) -> list[list[HoldOutcome]]:
        """Holds slots of many pages in one transaction, in order; durable once this returns.

        A slot is held when less than the budget is held and confirmed, and the user has fewer
        than the cap of the campaign's slots that are open, or were confirmed in the last 24
        hours before ``now_ms``: a rolling window. The same slot for the same campaign and user
        is held once, however often it is asked for, and confirmed it stays; one that lapsed is
        held anew. A slot that is open for another campaign or user passes on.

        Returns:
            One outcome a slot, page by page.

        Raises:
            UnavailableError: the database failed; nothing is held.
        """
        if self._salt is None:
            with self._database.reading() as connection:
                self._salt = bytes(connection.execute(sa.select(HEAD.c.erasure_salt)).scalar_one())
        with self._database.writing() as connection:
            lock(connection)
            holding = _Holding(connection, self._salt, pages, now_ms)
            outcomes = [
                [holding.outcome(page, wish) for wish in page.slots]
                if page.user_id not in holding.erased
                else [HoldOutcome.CAPPED] * len(page.slots)
                for page in pages
            ]
            holding.changes.save()
            granted = [
                page.decision
                for page, of_page in zip(pages, outcomes, strict=True)
                if page.decision is not None and all(o is HoldOutcome.HELD for o in of_page)
            ]
            if granted:
                write_decisions(connection, granted)
        return outcomes

    def lapse(self, held_before_ms: int) -> int:
        """Lets slots lapse that were held before a moment and are open; returns how many.

        In transactions of at most :data:`MOST_LAPSING` slots, so that holds get their turns.
        """
        lapsed = 0
        old = (
            sa.select(CAMPAIGN_SLOTS.c.request_id, CAMPAIGN_SLOTS.c.item_id)
            .where(CAMPAIGN_SLOTS.c.state == OPEN, CAMPAIGN_SLOTS.c.held_at < held_before_ms)
            .limit(MOST_LAPSING)
        )
        while True:
            # Nearly always there is none: looking for it holds up nobody.
            with self._database.reading() as connection:
                if connection.execute(old.limit(1)).first() is None:
                    return lapsed
            with self._database.writing() as connection:
                lock(connection)
                keys: list[SlotKey] = [tuple(row) for row in connection.execute(old).all()]
                changes = SlotChanges(connection, keys)
                for key in keys:
                    changes.lapse(key)
                changes.save()
            lapsed += len(keys)

    def counts(self) -> dict[str, CampaignCounts]:
        """What every campaign has got; one that never got anything may be missing."""
        with self._database.reading() as connection:
            return _counts(connection)

    def prices(self) -> list[SavedPrice]:
        """The pacer's state, by campaign id; empty before its first step."""
        names = [field.name.removesuffix("_ms") for field in fields(SavedPrice)]
        wanted = sa.select(*(CAMPAIGN_PRICES.c[name] for name in names))
        with self._database.reading() as connection:
            rows = connection.execute(wanted.order_by(CAMPAIGN_PRICES.c.campaign_id)).all()
        return [SavedPrice(*row) for row in rows]

    def save_prices(self, prices: Sequence[SavedPrice]) -> None:
        """Replaces the pacer's state; durable once this returns."""
        rows = [
            {field.name.removesuffix("_ms"): getattr(price, field.name) for field in fields(price)}
            for price in prices
        ]
        with self._database.writing() as connection:
            connection.execute(sa.delete(CAMPAIGN_PRICES))
            if rows:
                connection.execute(sa.insert(CAMPAIGN_PRICES), rows)

    def audit(self) -> list[Discrepancy]:
        """Recounts slots and events, and compares; empty: every count is right.

        Held are open slots. Confirmed are counted impressions of the event log, and confirmed
        slots; clicks its counted clicks; to both belongs what was erased.
        """
        with self._database.reading() as connection:
            counted = _counts(connection)
            recounted = {
                "held": _tally(connection, CAMPAIGN_SLOTS, CAMPAIGN_SLOTS.c.state == OPEN),
                "confirmed slots": _tally(
                    connection, CAMPAIGN_SLOTS, CAMPAIGN_SLOTS.c.state == CONFIRMED
                ),
            } | {
                f"{name} events": _tally(connection, EVENTS, counted_events(event_type))
                for event_type, name in COUNTED_TYPES.items()
            }
        ids = sorted({*counted, *itertools.chain.from_iterable(recounted.values())})
        return [
            found
            for campaign_id in ids
            for found in _compared(campaign_id, counted.get(campaign_id), recounted)
        ]


def _compared(
    campaign_id: str,
    counts: CampaignCounts | None,
    recounted: Mapping[str, Mapping[str, int]],
) -> Iterator[Discrepancy]:
    said = counts or CampaignCounts()
    for what, tally in recounted.items():
        name = what.partition(" ")[0]
        counted = getattr(said, name) - getattr(said, f"erased_{name}", 0)
        if counted != tally.get(campaign_id, 0):
            yield Discrepancy(campaign_id, what, counted, tally.get(campaign_id, 0))


def _counts(connection: sa.Connection) -> dict[str, CampaignCounts]:
    names = [field.name for field in fields(CampaignCounts)]
    wanted = sa.select(CAMPAIGN_COUNTS.c.campaign_id, *(CAMPAIGN_COUNTS.c[name] for name in names))
    return {row[0]: CampaignCounts(*row[1:]) for row in connection.execute(wanted).all()}


def _tally(
    connection: sa.Connection, table: sa.Table, rows: sa.ColumnElement[bool]
) -> dict[str, int]:
    wanted = sa.select(table.c.campaign_id, sa.func.count()).where(rows)
    return {row[0]: row[1] for row in connection.execute(wanted.group_by(table.c.campaign_id))}


class _Holding:
    """What decides on wishes, read at once for all pages of a transaction."""

    def __init__(
        self, connection: sa.Connection, salt: bytes, pages: Sequence[PageWish], now_ms: int
    ) -> None:
        self._now_ms = now_ms
        wishes = [(page, wish) for page in pages for wish in page.slots]
        self.changes = SlotChanges(connection, ((p.request_id, w.item_id) for p, w in wishes))
        self.erased = _erased(connection, salt, {page.user_id for page in pages})
        used = _chunked(connection, _COUNTS, {wish.campaign_id for _, wish in wishes})
        self._used = {row[0]: int(row[1]) for row in used}
        self._had: dict[tuple[str, str], set[SlotKey]] = {}
        pairs = {(page.user_id, wish.campaign_id) for page, wish in wishes}
        for row in _HAD.among(connection, pairs, now_ms - CAP_PERIOD_MS):
            self._had.setdefault((row.user_id, row.campaign_id), set()).add(
                (row.request_id, row.item_id)
            )

    def outcome(self, page: PageWish, wish: SlotWish) -> HoldOutcome:
        key = page.request_id, wish.item_id
        slot = self.changes.get(key)
        state = slot["state"] if slot is not None else None
        same = slot is not None and (slot["campaign_id"], slot["user_id"]) == (
            wish.campaign_id,
            page.user_id,
        )
        if same and state in (OPEN, CONFIRMED):
            return HoldOutcome.HELD
        if state == CONFIRMED:
            return HoldOutcome.SPENT
        taken = self._used.get(wish.campaign_id, 0)
        taken += self.changes.moved(wish.campaign_id, "held")
        if slot is not None and state == OPEN and slot["campaign_id"] == wish.campaign_id:
            taken -= 1  # The other user's, which this one is to have.
        if taken >= wish.budget:
            return HoldOutcome.SPENT
        had = self._had.setdefault((page.user_id, wish.campaign_id), set())
        if len(had - {key}) >= wish.cap_per_day:
            return HoldOutcome.CAPPED
        if slot is not None and state == OPEN:
            self._had.get((slot["user_id"], slot["campaign_id"]), set()).discard(key)
        self.changes.hold(key, wish.campaign_id, page.user_id, self._now_ms)
        had.add(key)
        return HoldOutcome.HELD


def _chunked(
    connection: sa.Connection, statement: sa.Select[Any], values: Collection[Any]
) -> Iterator[Any]:
    for some in statement_chunks(values):
        yield from connection.execute(statement, {"some": some})


def _erased(connection: sa.Connection, salt: bytes, user_ids: Collection[str]) -> set[str]:
    by_hash = {id_hash(salt, user_id): user_id for user_id in user_ids}
    return {by_hash[bytes(row.id_hash)] for row in _chunked(connection, _ERASED, by_hash)}
