"""The data set as it is now: what was ingested, under what callers wrote since."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recmesh.deployments.mesh_config import DEFAULT_CONFIG, MeshConfig
from recmesh.deployments.mesh_record import running_mesh
from recmesh.storage.catalog_log import CatalogLog
from recmesh.storage.catalog_overlay import CatalogOverlay
from recmesh.storage.database import Database
from recmesh.storage.dataset import Dataset
from recmesh.storage.embedding_registry import EmbeddingVersion
from recmesh.storage.errors import NotFoundError
from recmesh.storage.event_log import EventLog
from recmesh.storage.home import Home
from recmesh.storage.recorded_events import RecordedEvents


def mesh_config(home: Home) -> MeshConfig:
    """The running mesh's settings, or the packaged file's; the environment overrides both."""
    running = running_mesh(home)
    return MeshConfig.load(Path(running.config) if running else DEFAULT_CONFIG, home)


def opened_database(home: Home) -> Database | None:
    """The database, for reading; None when nobody wrote one yet. The caller closes it.

    Raises:
        UnavailableError: the database does not answer.
    """
    return Database.for_reading(mesh_config(home).database.uri, home.database)


@contextmanager
def recorded_database(home: Home) -> Iterator[Database]:
    """The database of a mesh that has served, for reading.

    Raises:
        NotFoundError: nobody wrote one yet.
        UnavailableError: the database does not answer.
    """
    database = opened_database(home)
    if database is None:
        raise NotFoundError("nothing is recorded yet: pages are, once a mesh serves: recmesh up")
    try:
        yield database
    finally:
        database.close()


def written_overlay(home: Home) -> CatalogOverlay | None:
    """What callers wrote; None when there is no database yet. Raises as above."""
    database = opened_database(home)
    if database is None:
        return None
    try:
        return CatalogOverlay(CatalogLog(database).read())
    finally:
        database.close()


def current_dataset(home: Home) -> Dataset:
    """The data set with what callers wrote.

    Raises:
        NotFoundError: nothing was ingested.
        UnavailableError: the database does not answer.
    """
    dataset = Dataset.open(home.dataset)
    overlay = written_overlay(home)
    return dataset.under(overlay) if overlay else dataset


def learning_dataset(home: Home) -> Dataset:
    """What models learn from: the data set with what callers wrote, and the events they recorded.

    Raises:
        NotFoundError: nothing was ingested.
        UnavailableError: the database does not answer.
    """
    dataset = Dataset.open(home.dataset)
    database = opened_database(home)
    if database is None:
        return dataset
    try:
        written = dataset.under(CatalogOverlay(CatalogLog(database).read()))
        return written.with_recorded(RecordedEvents.read(EventLog(database)))
    finally:
        database.close()


def index_position(home: Home, record: EmbeddingVersion) -> int:
    """The last write to the catalog that a record's collection holds. Raises as above."""
    database = opened_database(home)
    if database is None:
        return record.catalog_seq
    try:
        followed = CatalogLog(database).index_position(record.collection)
    finally:
        database.close()
    return max(record.catalog_seq, followed or 0)
