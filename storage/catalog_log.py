"""The catalog log: what callers wrote since the data set was ingested, and in which order.

Every change of a key gets the next sequence number, in the transaction that makes it durable.
Numbers become visible in order, because a transaction holds the head's row while it gives them
out. Who has seen everything up to a number asks for what came after and so can follow, or
rebuild, exactly. A key's earlier states are not kept.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from recmesh.storage import campaign_slots
from recmesh.storage.campaign_tables import CAMPAIGN_SLOTS
from recmesh.storage.catalog_overlay import DELETED, CatalogChanges
from recmesh.storage.catalog_tables import (
    ERASED_USERS,
    HEAD,
    INDEX_POSITIONS,
    SCHEMAS,
    TABLES,
)
from recmesh.storage.database import Database, statement_chunks
from recmesh.storage.decision_tables import DECISIONS
from recmesh.storage.erased_users import USER_COLUMNS, ErasedUsers, id_hash
from recmesh.storage.errors import InvalidRequestError
from recmesh.storage.event_tables import EVENTS, QUARANTINED
from recmesh.storage.interchange import TIMESTAMP
from recmesh.storage.keyed_rows import KeyedRows

Row: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, ...]

USER_TABLES: dict[str, sa.Table] = {
    "users": TABLES["users"],
    "edges": TABLES["edges"],
    "events": EVENTS,
    "quarantined_events": QUARANTINED,
    "campaign_slots": CAMPAIGN_SLOTS,
    "decisions": DECISIONS,
}
"""SQL tables that name users, by their names in :data:`USER_COLUMNS`."""


@dataclass(frozen=True, slots=True)
class Upsert:
    """Adds or replaces rows. Each has every column of its table; times are milliseconds.

    Answered with the number of rows.
    """

    table: str
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Delete:
    """Takes rows away, known or not. Answered with the number of those that were there."""

    table: str
    keys: Sequence[Key]
    ingested: Collection[Key] = ()
    """Those of the keys that the data set has."""


@dataclass(frozen=True, slots=True)
class Erase:
    """Erases users, edges that name them, their events and sponsored slots; campaigns' counts stay.

    Answered with how many were there.
    """

    user_ids: Sequence[str]
    ingested: Collection[str] = ()
    """Those of the users that the data set has."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """Says that a vector collection now holds everything up to ``seq``."""

    collection: str
    seq: int


Write: TypeAlias = Upsert | Delete | Erase | Indexed


class CatalogLog:
    """Writes and reads the log. Calls block: make them in a thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, writes: Sequence[Write]) -> list[Any]:
        """Does all writes in one transaction, in order; durable once this returns.

        Returns:
            The answer to each write, or the InvalidRequestError that refuses it; one that
            is refused changes nothing and costs the others nothing.

        Raises:
            UnavailableError: the database failed; none was written.
        """
        with self._database.writing() as connection:
            transaction = _Transaction(connection)
            answers: list[Any] = []
            for write in writes:
                try:
                    answers.append(transaction.apply(write))
                except InvalidRequestError as error:
                    answers.append(error)
            transaction.save_head()
        if any(isinstance(write, Erase) for write in writes):
            self._database.forget_deleted([table.name for table in USER_TABLES.values()])
        return answers

    def read(
        self,
        after_seq: int = 0,
        *,
        limit: int | None = None,
        columns: Mapping[str, Sequence[str]] | None = None,
    ) -> CatalogChanges:
        """The changes after ``after_seq``, oldest first.

        Args:
            after_seq: last change known.
            limit: rows of a table at most; what comes after ``through_seq`` is left out.
            columns: of the tables to read; default: all of all tables.
        """
        with self._database.reading() as connection:
            head_seq, salt = connection.execute(sa.select(HEAD.c.seq, HEAD.c.erasure_salt)).one()
            through = head_seq
            found: dict[str, tuple[Sequence[str], Sequence[Any]]] = {}
            wanted = (
                columns
                if columns is not None
                else {name: schema.columns.names for name, schema in SCHEMAS.items()}
            )
            if head_seq <= after_seq:
                # Whoever follows looks several times a second, and nearly always finds nothing.
                none = {name: _no_rows(name, tuple(names)) for name, names in wanted.items()}
                return CatalogChanges(head_seq, head_seq, none, ErasedUsers(salt, frozenset()))
            for name, names in wanted.items():
                table = TABLES[name]
                rows = connection.execute(
                    sa.select(*(table.c[column] for column in names), table.c.deleted, table.c.seq)
                    .where(table.c.seq > after_seq)
                    .order_by(table.c.seq)
                    .limit(limit)
                ).all()
                if limit is not None and len(rows) == limit:
                    through = min(through, rows[-1].seq)
                found[name] = names, rows
            hashes = connection.execute(
                sa.select(ERASED_USERS.c.id_hash).where(
                    ERASED_USERS.c.seq > after_seq, ERASED_USERS.c.seq <= through
                )
            ).scalars()
            erased = ErasedUsers(salt, frozenset(bytes(value) for value in hashes))
        tables = {
            name: _arrow(name, names, [row for row in rows if row.seq <= through])
            for name, (names, rows) in found.items()
        }
        return CatalogChanges(through, head_seq, tables, erased)

    def index_position(self, collection: str) -> int | None:
        """The last change that a vector collection holds; None: nobody followed for it yet."""
        with self._database.reading() as connection:
            return connection.execute(
                sa.select(INDEX_POSITIONS.c.seq).where(INDEX_POSITIONS.c.collection == collection)
            ).scalar_one_or_none()

    def rows_of_users(self, user_ids: Sequence[str]) -> dict[str, int]:
        """How many rows of each table name one of the users."""
        found: dict[str, int] = {}
        with self._database.reading() as connection:
            for name, table in USER_TABLES.items():
                columns = USER_COLUMNS[name]
                found[name] = sum(
                    connection.execute(
                        sa.select(sa.func.count())
                        .select_from(table)
                        .where(sa.or_(*(table.c[column].in_(ids) for column in columns)))
                    ).scalar_one()
                    for ids in statement_chunks(user_ids)
                )
        return found


def _arrow(name: str, names: Sequence[str], rows: Sequence[Any]) -> pa.Table:
    schema = SCHEMAS[name].columns
    by_column = list(zip(*rows, strict=True)) if rows else [()] * (len(names) + 2)
    columns = {}
    for column, values in zip(names, by_column, strict=False):
        kind = schema.field(column).type
        if kind == TIMESTAMP:
            columns[column] = pa.array(values, pa.int64()).cast(TIMESTAMP)
        else:
            columns[column] = pa.array(values, kind)
    columns[DELETED] = pa.array(by_column[len(names)], pa.bool_())
    return pa.table(columns)


@functools.lru_cache
def _no_rows(name: str, names: tuple[str, ...]) -> pa.Table:
    return _arrow(name, names, [])


class _Transaction:
    """Applies writes over one connection, giving out sequence numbers."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        # Held until the commit, so that numbers become visible in their order.
        head = connection.execute(sa.select(HEAD).with_for_update()).one()
        self._first = self._last = int(head.seq)
        self._salt = bytes(head.erasure_salt)
        self._insert: Any = (
            postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        )

    def apply(self, write: Write) -> Any:
        match write:
            case Upsert():
                return self._upsert(write)
            case Delete():
                return self._delete(write)
            case Erase():
                return self._erase(write)
            case Indexed():
                return self._indexed(write)

    def save_head(self) -> None:
        if self._last != self._first:
            self._connection.execute(sa.update(HEAD).values(seq=self._last))

    def _next(self) -> int:
        self._last += 1
        return self._last

    def _put(self, table: sa.Table, rows: Sequence[Row]) -> None:
        statement = self._insert(table)
        keys = [column.name for column in table.primary_key]
        others = {c.name: statement.excluded[c.name] for c in table.c if c.name not in keys}
        self._connection.execute(
            statement.on_conflict_do_update(index_elements=keys, set_=others), list(rows)
        )

    def _hash_of(self, user_ids: Sequence[str]) -> dict[str, bytes]:
        return {user_id: id_hash(self._salt, user_id) for user_id in user_ids}

    def _erased(self, hashes: Sequence[bytes]) -> set[bytes]:
        return {
            bytes(found)
            for some in statement_chunks(hashes)
            for found in self._connection.execute(
                sa.select(ERASED_USERS.c.id_hash).where(ERASED_USERS.c.id_hash.in_(some))
            ).scalars()
        }

    def _upsert(self, write: Upsert) -> int:
        for column in USER_COLUMNS.get(write.table, ()):
            hashes = self._hash_of([row[column] for row in write.rows])
            erased = self._erased(list(hashes.values()))
            for place, row in enumerate(write.rows if erased else ()):
                if hashes[row[column]] in erased:
                    raise InvalidRequestError(
                        f"{write.table}[{place}].{column}",
                        "is of a user who was erased; an erased id is never taken again",
                    )
        rows = [{**row, "seq": self._next(), "deleted": False} for row in write.rows]
        self._put(TABLES[write.table], rows)
        return len(rows)

    def _delete(self, write: Delete) -> int:
        table, schema = TABLES[write.table], SCHEMAS[write.table]
        names = [table.c[name] for name in schema.key]
        known: dict[Key, bool] = {
            tuple(row[:-1]): not row.deleted
            for row in KeyedRows([*names, table.c.deleted], names).among(
                self._connection, dict.fromkeys(write.keys)
            )
        }
        blank: Row = dict.fromkeys(schema.columns.names)
        self._put(
            table,
            [
                {**blank, **dict(zip(schema.key, k, strict=True))}
                | {"seq": self._next(), "deleted": True}
                for k in write.keys
            ],
        )
        return sum(known.get(key, key in write.ingested) for key in write.keys)

    def _erase(self, write: Erase) -> int:
        hashes = self._hash_of(write.user_ids)
        known = self._erased(list(hashes.values()))
        users = TABLES["users"]
        there = set(write.ingested) | {
            user_id
            for ids in statement_chunks(write.user_ids)
            for user_id in self._connection.execute(
                sa.select(users.c.user_id).where(users.c.user_id.in_(ids))
            ).scalars()
        }
        there = {user_id for user_id in there if hashes[user_id] not in known}
        new = [{"id_hash": h, "seq": self._next()} for h in hashes.values() if h not in known]
        if new:
            self._connection.execute(sa.insert(ERASED_USERS), new)
        # No event or slot of theirs may be recorded between this and the commit.
        campaign_slots.lock(self._connection)
        for name, table in USER_TABLES.items():
            for column, ids in itertools.product(
                USER_COLUMNS[name], statement_chunks(write.user_ids)
            ):
                theirs = table.c[column].in_(ids)
                campaign_slots.forget(self._connection, table, theirs)
                self._connection.execute(sa.delete(table).where(theirs))
        return len(there)

    def _indexed(self, write: Indexed) -> None:
        self._put(INDEX_POSITIONS, [{"collection": write.collection, "seq": write.seq}])
