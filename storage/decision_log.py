"""The log of decisions: what every page was chosen from, for replay, explanation and evaluation.

A record is a page's, known by its decision id: sent again, it replaces what was there. It belongs
to its user and goes with them; where its items are users, it goes with any of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from recmesh.storage.catalog_tables import ERASED_USERS, HEAD
from recmesh.storage.compressed_record import decompressed
from recmesh.storage.database import Database, statement_chunks
from recmesh.storage.decision_tables import DECISION_LOSSES, DECISIONS
from recmesh.storage.erased_users import id_hash
from recmesh.v1.decision_log_pb2 import SealedDecision

READ_TOGETHER = 200
"""Records read, or pruned, at a time."""

_INSERT = sa.insert(DECISIONS)
_REPLACED = sa.delete(DECISIONS).where(
    DECISIONS.c.decision_id.in_(sa.bindparam("some", expanding=True))
)
_ERASED = sa.select(ERASED_USERS.c.id_hash).where(
    ERASED_USERS.c.id_hash.in_(sa.bindparam("some", expanding=True))
)


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A record as it is kept."""

    seq: int
    request_id: str
    surface: str
    made_at_unix_ms: int
    record: bytes
    """See :func:`~recmesh.storage.compressed_record.decompressed`."""


@dataclass(frozen=True, slots=True)
class DecisionSpan:
    """Which records are meant."""

    since_unix_ms: int = 0
    until_unix_ms: int = 2**62
    """The first moment after it."""
    surface: str = ""
    """Empty: of all surfaces."""


def write_decisions(connection: sa.Connection, decisions: Sequence[SealedDecision]) -> None:
    """Keeps records, in the caller's transaction; of users who were erased it keeps nothing."""
    salt = bytes(connection.execute(sa.select(HEAD.c.erasure_salt)).scalar_one())
    # The last one of a decision is the one that counts.
    by_id = {decision.decision_id: decision for decision in decisions}
    hashes = {one.user_id: id_hash(salt, one.user_id) for one in by_id.values()}
    erased = {
        bytes(row.id_hash)
        for some in statement_chunks(set(hashes.values()))
        for row in connection.execute(_ERASED, {"some": some})
    }
    for some in statement_chunks(by_id):
        connection.execute(_REPLACED, {"some": some})
    rows = [
        {
            "decision_id": one.decision_id,
            "request_id": one.request_id,
            "user_id": one.user_id,
            "surface": one.surface,
            "made_at": one.made_at_unix_ms,
            "of_users": one.of_users,
            "record": one.record,
        }
        for one in by_id.values()
        if hashes[one.user_id] not in erased
    ]
    if rows:
        connection.execute(_INSERT, rows)


class DecisionLog:
    """Writes and reads records. Calls block: make them in a thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, decisions: Sequence[SealedDecision], lost: int, now_unix_ms: int) -> None:
        """Keeps records, and how many could not be; durable once this returns.

        Raises:
            UnavailableError: the database failed; nothing was written.
        """
        with self._database.writing() as connection:
            write_decisions(connection, decisions)
            if lost:
                connection.execute(sa.insert(DECISION_LOSSES), {"at": now_unix_ms, "lost": lost})

    def of_request(self, request_id: str) -> list[StoredDecision]:
        """The records of a request, in the order in which they were made."""
        wanted = _SELECT.where(DECISIONS.c.request_id == request_id)
        with self._database.reading() as connection:
            rows = connection.execute(wanted.order_by(DECISIONS.c.made_at, DECISIONS.c.seq)).all()
        return [StoredDecision(*row) for row in rows]

    def count(self, span: DecisionSpan) -> int:
        """How many records there are."""
        with self._database.reading() as connection:
            wanted = sa.select(sa.func.count()).select_from(DECISIONS).where(*_within(span))
            return int(connection.execute(wanted).scalar_one())

    def read(self, span: DecisionSpan) -> Iterator[StoredDecision]:
        """All records, in the order in which they were written.

        Each :data:`READ_TOGETHER` are of one state of the database, and none is told twice.
        """
        after = 0
        while True:
            wanted = _SELECT.where(DECISIONS.c.seq > after, *_within(span))
            with self._database.reading() as connection:
                rows = connection.execute(
                    wanted.order_by(DECISIONS.c.seq).limit(READ_TOGETHER)
                ).all()
            for row in rows:
                yield StoredDecision(*row)
            if len(rows) < READ_TOGETHER:
                return
            after = rows[-1].seq

    def lost(self, span: DecisionSpan) -> int:
        """How many records are missing, by what orchestrators said in that time."""
        within = (DECISION_LOSSES.c.at >= span.since_unix_ms) & (
            DECISION_LOSSES.c.at < span.until_unix_ms
        )
        with self._database.reading() as connection:
            total = sa.select(sa.func.coalesce(sa.func.sum(DECISION_LOSSES.c.lost), 0))
            return int(connection.execute(total.where(within)).scalar_one())

    def prune(self, before_unix_ms: int) -> int:
        """Deletes some of the records made before a moment; returns how many.

        At most :data:`READ_TOGETHER`, so that nobody waits for long: call it until it returns 0.
        """
        old = (
            sa.select(DECISIONS.c.seq)
            .where(DECISIONS.c.made_at < before_unix_ms)
            .limit(READ_TOGETHER)
        )
        # Nearly always there is none: looking for it holds up nobody.
        with self._database.reading() as connection:
            if connection.execute(old.limit(1)).first() is None:
                return 0
        with self._database.writing() as connection:
            deleted = connection.execute(sa.delete(DECISIONS).where(DECISIONS.c.seq.in_(old)))
            connection.execute(
                sa.delete(DECISION_LOSSES).where(DECISION_LOSSES.c.at < before_unix_ms)
            )
        return deleted.rowcount

    def erase_candidates(self, user_ids: Iterable[str]) -> None:
        """Deletes every record in which one of the users is an item.

        Reads all records whose items are users; pruning keeps these few.
        """
        for seqs in statement_chunks(self._naming(user_ids)):
            with self._database.writing() as connection:
                connection.execute(sa.delete(DECISIONS).where(DECISIONS.c.seq.in_(seqs)))

    def candidates_left(self, user_ids: Iterable[str]) -> int:
        """Records in which one of the users is an item."""
        return sum(1 for _ in self._naming(user_ids))

    def _naming(self, user_ids: Iterable[str]) -> Iterator[int]:
        wanted, after = set(user_ids), 0
        while True:
            some = (
                sa.select(DECISIONS.c.seq, DECISIONS.c.record)
                .where(DECISIONS.c.of_users, DECISIONS.c.seq > after)
                .order_by(DECISIONS.c.seq)
                .limit(READ_TOGETHER)
            )
            with self._database.reading() as connection:
                rows = connection.execute(some).all()
            for seq, record in rows:
                found = decompressed(record)
                named = (*found.catalog.item_ids, *found.request.exclude_item_ids)
                if not wanted.isdisjoint(named):
                    yield seq
            if len(rows) < READ_TOGETHER:
                return
            after = rows[-1].seq


_SELECT = sa.select(
    DECISIONS.c.seq,
    DECISIONS.c.request_id,
    DECISIONS.c.surface,
    DECISIONS.c.made_at,
    DECISIONS.c.record,
)


def _within(span: DecisionSpan) -> list[sa.ColumnElement[bool]]:
    clauses = [
        DECISIONS.c.made_at >= span.since_unix_ms,
        DECISIONS.c.made_at < span.until_unix_ms,
    ]
    return [*clauses, DECISIONS.c.surface == span.surface] if span.surface else clauses
