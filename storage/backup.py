"""A whole installation in one file, taken while it serves.

::

    FILE.tar
        sql/TABLE.parquet    rows, as one transaction saw them
        home/…               data, artifacts, policies, experiments, keys of the home folder
        backup.json          what is in it: sizes and SHA-256 of files, rows of tables

The rows are taken first, and files are replaced whole or never change, so that what rows name is
there. Left out: what runs, caches, and vectors, which ``recmesh index`` makes of the rest. Rows are
the same on SQLite and PostgreSQL: a backup of one restores into the other.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa

from recmesh.storage import campaign_tables, decision_tables, event_tables
from recmesh.storage.catalog_tables import METADATA
from recmesh.storage.database import REVISION, Database
from recmesh.storage.errors import ConfigurationError, DataError, NotFoundError
from recmesh.storage.home import Home
from recmesh.storage.model_tables import MODEL_CHANGES, MODEL_VERSIONS
from recmesh.storage.sql_rows import read_rows, tables_with_rows, write_rows

FORMAT = 1
MANIFEST = "backup.json"
LOCK_WAIT_S = 10.0
HOME, SQL = "home/", "sql/"

Watch = Callable[[str], None]
"""Told what is being taken or put back."""

_OF_THE_REGISTRY = [MODEL_VERSIONS, MODEL_CHANGES]
_MODULES = (campaign_tables, decision_tables, event_tables)
"""Importing them puts their tables into the metadata."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds."""

    made_at: str
    """ISO 8601, UTC."""
    revision: str
    """Of the tables."""
    files: dict[str, tuple[int, str]]
    """Bytes and SHA-256 by path in the backup; tables' files, too."""
    rows: dict[str, int]
    """By table."""
    format: int = FORMAT

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(size for size, _ in self.files.values())


def _kept(home: Home) -> list[Path]:
    """Files and folders of a home folder that nothing else could make again."""
    return [
        home.dataset,
        home.artifacts,
        home.encoders,
        home.policies,
        home.experiments,
        home.deployed,
        home.tuning,
        home.retraining,
        home.attribution_keys,
    ]


def _files(home: Home) -> Iterator[Path]:
    for place in _kept(home):
        found = sorted(place.rglob("*")) if place.is_dir() else [place]
        for file in found:
            # Names that begin with a dot are locks, and writings that are not finished.
            hidden = any(part.startswith(".") for part in file.relative_to(home.root).parts)
            if file.is_file() and not hidden:
                yield file


class _Tar:
    """Writes files, and keeps what each was."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.files: dict[str, tuple[int, str]] = {}

    def add(self, file: Path, name: str) -> None:
        with contextlib.suppress(FileNotFoundError), file.open("rb") as opened:
            member = tarfile.TarInfo(name)
            member.size = os.fstat(opened.fileno()).st_size
            member.mode = 0o600
            reader = _Hashing(opened, member.size)
            self._tar.addfile(member, reader)
            self.files[name] = member.size, reader.hash.hexdigest()


class _Hashing(io.RawIOBase):
    """So many bytes of a file, hashed as they are read."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size
        self.hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        part = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(part)
        self.hash.update(part)
        return part


def make_backup(file: Path, home: Home, uri: str, watch: Watch = lambda _: None) -> Manifest:
    """Writes a backup, readable by its owner alone; killed half-way, it leaves none.

    Args:
        file: to be written; replaced when it is there.
        home: of the installation.
        uri: of PostgreSQL; empty: SQLite in the home folder.
        watch: told what is being taken.

    Raises:
        NotFoundError: there is nothing to back up.
        UnavailableError: the database does not answer.
    """
    if not home.dataset.is_dir() and not home.artifacts.is_dir():
        raise NotFoundError(f"nothing was ingested or trained in {home.root}")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".backup-") as scratch:
        partial = Path(scratch) / "partial"
        private = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(private, "wb") as raw, tarfile.open(fileobj=raw, mode="w") as tar:
            taken = _Tar(tar)
            rows = _take_rows(home, uri, Path(scratch), taken, watch)
            for found in _files(home):
                name = str(found.relative_to(home.root))
                watch(name)
                taken.add(found, HOME + name)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            manifest = Manifest(now, REVISION, taken.files, rows)
            said = json.dumps(asdict(manifest), indent=1).encode()
            member = tarfile.TarInfo(MANIFEST)
            member.size, member.mode = len(said), 0o600
            tar.addfile(member, io.BytesIO(said))
            tar.close()
            raw.flush()
            os.fsync(raw.fileno())
        partial.replace(file)
    return manifest


def _stores(home: Home, uri: str) -> list[tuple[Path, list[sa.Table]]]:
    """SQLite's file, and the tables that are kept there; PostgreSQL has all of them."""
    registry = _OF_THE_REGISTRY
    main = [table for table in METADATA.sorted_tables if table not in registry]
    if uri:
        return [(home.database, [*main, *registry])]
    return [(home.database, main), (home.model_registry, registry)]


def _take_rows(home: Home, uri: str, scratch: Path, into: _Tar, watch: Watch) -> dict[str, int]:
    rows: dict[str, int] = {}
    for file, tables in _stores(home, uri):
        database = Database.for_reading(uri, file)
        if database is None:
            continue
        try:
            with database.reading() as connection:
                for table in tables:
                    watch(table.name)
                    taken = scratch / "rows"
                    rows[table.name] = write_rows(connection, table, taken)
                    into.add(taken, f"{SQL}{table.name}.parquet")
        finally:
            database.close()
    return rows


def read_manifest(file: Path) -> Manifest:
    """Reads a whole backup, and holds every file against what the backup says of it.

    Raises:
        NotFoundError: there is no such file.
        DataError: it is no backup, or a damaged one; says what is wrong.
    """
    found: dict[str, tuple[int, str]] = {}
    said: dict[str, Any] | None = None
    try:
        with tarfile.open(file) as tar:
            for member in tar:
                opened = tar.extractfile(member)
                if opened is None:
                    raise DataError(f"{file}: {member.name} is no file")
                if member.name == MANIFEST:
                    said = json.load(opened)
                    continue
                digest = hashlib.file_digest(opened, "sha256")  # type: ignore[arg-type]
                found[member.name] = member.size, digest.hexdigest()
    except FileNotFoundError:
        raise NotFoundError(f"there is no {file}") from None
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise DataError(f"{file} is no backup, or cut short: {error}") from error
    if said is None:
        raise DataError(f"{file} is no backup, or cut short: it has no {MANIFEST}")
    if said.get("format") != FORMAT:
        raise DataError(f"{file} has format {said.get('format')}; this release reads {FORMAT}")
    manifest = Manifest(
        said["made_at"],
        said["revision"],
        {name: (int(size), digest) for name, (size, digest) in said["files"].items()},
        said["rows"],
    )
    wrong = sorted(n for n in {*found, *manifest.files} if found.get(n) != manifest.files.get(n))
    if wrong:
        raise DataError(f"{file} is damaged: {', '.join(wrong[:3])} of {len(found)} files")
    return manifest


def restore_backup(file: Path, home: Home, uri: str, watch: Watch = lambda _: None) -> Manifest:
    """Puts a backup into an installation that has nothing yet.

    Args:
        file: of :func:`make_backup`.
        home: without data, artifacts and rows.
        uri: of an empty PostgreSQL; empty: SQLite in the home folder.
        watch: told what is being put back.

    Raises:
        NotFoundError: there is no such file.
        DataError: it is damaged; nothing was written.
        ConfigurationError: the installation has something already, or the backup is of a newer
            release; nothing was written.
        UnavailableError: the database does not answer.
    """
    manifest = read_manifest(file)
    if manifest.revision > REVISION:
        raise ConfigurationError(
            f"{file} is of a newer release (tables {manifest.revision}, here {REVISION})"
        )
    there = next((place for place in _kept(home) if place.exists()), None)
    if there is not None:
        raise ConfigurationError(
            f"{there} is there already; restore into an empty folder, named by RECMESH_HOME"
        )
    home.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.root, prefix=".restoring-") as scratch:
        with tarfile.open(file) as tar:
            for member in tar:
                watch(member.name)
                tar.extract(member, scratch, filter="data")
        for store, tables in _stores(home, uri):
            _put_rows(store, uri, tables, Path(scratch) / SQL, watch)
        # Files last: without them nothing serves what was restored in part.
        for made in sorted((Path(scratch) / HOME).glob("*")):
            shutil.move(made, home.root / made.name)
    return manifest


def _put_rows(store: Path, uri: str, tables: list[sa.Table], folder: Path, watch: Watch) -> None:
    database = Database.for_writing(uri, store, wait_s=LOCK_WAIT_S)
    try:
        with database.writing() as connection:
            written = tables_with_rows(connection, tables)
            if written:
                raise ConfigurationError(
                    f"the database has rows already, in {', '.join(written[:3])}; restore into an "
                    "empty one"
                )
            for table in tables:
                file = folder / f"{table.name}.parquet"
                if file.is_file():
                    watch(table.name)
                    read_rows(connection, table, file)
    finally:
        database.close()
