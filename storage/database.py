"""The SQL database: SQLite in the home folder, or PostgreSQL by its URI.

SQLite is written through one connection of one process: a lock file sees to that, because the
SQLite that Python brings may damage a write-ahead log that several connections write. Everybody
else reads, through connections that cannot write. PostgreSQL needs no such care.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from recmesh.storage.errors import ConfigurationError, UnavailableError

MIGRATIONS = Path(__file__).with_name("migrations")
READER_TIMEOUT_S = 5.0
LOCK_RETRY_S = 0.05
MIGRATION_LOCK = 7_236_910
"""PostgreSQL's advisory lock under which one process at a time migrates."""
REVISION = "0007"
"""The newest migration."""
MOST_PARAMETERS = 500
"""Values named in one statement; databases limit them."""

T = TypeVar("T")


def statement_chunks(values: Iterable[T]) -> Iterator[list[T]]:
    """The values, as many at a time as one statement may name."""
    remaining = iter(values)
    while chunk := list(itertools.islice(remaining, MOST_PARAMETERS)):
        yield chunk


class Database:
    """Where rows are read and written. Calls block: make them in a thread."""

    def __init__(self, writer: sa.Engine | None, reader: sa.Engine, lock: IO[str] | None) -> None:
        self._writer = writer
        self._reader = reader
        self._lock = lock
        # Threads take turns at SQLite's one connection; PostgreSQL has one for each.
        self._turn: contextlib.AbstractContextManager[Any] = (
            threading.Lock() if lock is not None else contextlib.nullcontext()
        )

    @classmethod
    def for_writing(cls, uri: str, file: Path, *, wait_s: float = 0.0) -> Database:
        """Opens the database and brings its tables up to date.

        Args:
            uri: of PostgreSQL; empty: SQLite in ``file``.
            file: made when it is not there.
            wait_s: how long another process that writes ``file`` may take to leave.

        Raises:
            ConfigurationError: another process writes the file, or the URI is no database's.
            UnavailableError: the database does not answer.
        """
        if uri:
            engine = _postgresql(uri)
            database = cls(engine, _seeing_one_state(engine), None)
        else:
            lock = _only_writer(file, wait_s)
            database = cls(_sqlite(file, write=True), _sqlite(file, write=False), lock)
        try:
            database._migrate()
        except BaseException:
            database.close()
            raise
        return database

    @classmethod
    def for_reading(cls, uri: str, file: Path) -> Database | None:
        """Opens the database as it is; None when nobody has written one yet.

        Raises:
            ConfigurationError: an earlier release wrote it, and this one has not yet.
            UnavailableError: the database does not answer.
        """
        if not uri and not file.is_file():
            return None
        reader = _seeing_one_state(_postgresql(uri)) if uri else _sqlite(file, write=False)
        database = cls(None, reader, None)
        try:
            with database.reading() as connection:
                revision = _revision(connection)
        except BaseException:
            database.close()
            raise
        if revision is not None and revision >= REVISION:
            return database
        database.close()
        if revision is None:
            return None
        raise ConfigurationError(
            "an earlier release wrote the database; bring it up to date by starting this one: "
            "recmesh up"
        )

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state of the database. Raises as :meth:`writing` does."""
        with _translated(), self._reader.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that is durable once the context has ended without an error.

        On SQLite one thread at a time is inside.

        Raises:
            UnavailableError: the database failed; nothing was written.
        """
        if self._writer is None:
            raise ConfigurationError("this database was opened for reading")
        with _translated(), self._turn, self._writer.begin() as connection:
            yield connection

    def forget_deleted(self, tables: Sequence[str]) -> None:
        """Overwrites what deleted rows of the tables left in files. No transaction may be open.

        SQLite zeroes deleted cells (secure_delete), but its log has them until it is emptied.
        """
        if self._writer is None:
            raise ConfigurationError("this database was opened for reading")
        with _translated(), self._turn, self._writer.connect() as connection:
            if connection.dialect.name == "sqlite":
                connection.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
            else:
                autocommit = connection.execution_options(isolation_level="AUTOCOMMIT")
                autocommit.exec_driver_sql(f"VACUUM {', '.join(tables)}")

    def _migrate(self) -> None:
        with self.writing() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
            if _revision(connection) == REVISION:
                return
            # Seldom needed, and slow to import for a command that only writes a row.
            from alembic import command
            from alembic.config import Config

            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.set_main_option("path_separator", "os")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def close(self) -> None:
        """Lets go of connections, and of the right to write."""
        self._reader.dispose()
        if self._writer is not None:
            self._writer.dispose()
        if self._lock is not None:
            self._lock.close()


def _revision(connection: sa.Connection) -> str | None:
    """The last migration that was made; None: there are no tables."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if found is None else str(found)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        # Only the kind: the text may quote rows.
        raise UnavailableError(
            f"the database failed ({type(error.orig or error).__name__})"
        ) from error
    except SQLAlchemyError as error:
        raise UnavailableError(f"the database failed ({type(error).__name__})") from error


def _only_writer(file: Path, wait_s: float) -> IO[str]:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file.with_name(f".{file.name}.lock").open("a")
    except OSError as error:
        raise ConfigurationError(f"cannot write to {file.parent}: {error.strerror}") from error
    end_s = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= end_s:
                lock.close()
                raise ConfigurationError(
                    f"another process writes {file}; stop it, or name a PostgreSQL in database.uri"
                ) from error
            time.sleep(LOCK_RETRY_S)
        else:
            return lock


def _sqlite(file: Path, *, write: bool) -> sa.Engine:
    engine = sa.create_engine(
        f"sqlite:///file:{file.absolute()}?mode={'rwc' if write else 'ro'}&uri=true",
        poolclass=sa.StaticPool if write else sa.QueuePool,
        connect_args={"timeout": READER_TIMEOUT_S, "check_same_thread": False},
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        # Transactions are ours: Python's own would leave some statements outside.
        connection.isolation_level = None
        if write:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=ON")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _postgresql(uri: str) -> sa.Engine:
    try:
        url = sa.make_url(uri)
    except ArgumentError as error:
        raise ConfigurationError("database.uri is no URI; write postgresql://…") from error
    if url.get_backend_name() != "postgresql":
        raise ConfigurationError(
            f"database.uri names {url.get_backend_name()}; write postgresql://… or leave it "
            "empty for SQLite"
        )
    return sa.create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True)


def _seeing_one_state(engine: sa.Engine) -> sa.Engine:
    """PostgreSQL's statements would each see what was committed until then."""
    return engine.execution_options(isolation_level="REPEATABLE READ")
