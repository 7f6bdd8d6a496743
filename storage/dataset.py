"""Read access to ingested data.

A data set is a folder with ``dataset.json`` and one Parquet file a table, named there.
``dataset.json`` is replaced atomically, so a reader sees one consistent version for as
long as it holds the object. ``recmesh ingest`` and the erasure of users are the only writers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recmesh.storage.catalog_overlay import CatalogOverlay
from recmesh.storage.errors import DataError, NotFoundError, UnavailableError
from recmesh.storage.interchange import TABLES, TableSchema
from recmesh.storage.recorded_events import RecordedEvents

MANIFEST = "dataset.json"
WRITTEN = "+"
"""Between the version of what was ingested and the number of the last write, and, behind an ``e``,
that of the last recorded event."""


@dataclass(frozen=True)
class Dataset:
    """One immutable version of the ingested tables.

    Tables have exactly the columns of :mod:`recmesh.storage.interchange`, unique keys,
    no nulls in strings, lists and booleans (empty instead), and events sorted by time.
    """

    version: str
    """Hash over the content of all tables."""

    files: dict[str, Path]
    """Parquet file of every table that has rows, by table name."""

    overlay: CatalogOverlay | None = field(default=None, kw_only=True)
    """What callers wrote since; None: nothing."""
    recorded: RecordedEvents | None = field(default=None, kw_only=True)
    """Events that count beside the ingested ones; None: none do."""

    @classmethod
    def open(cls, folder: Path) -> Dataset:
        """Opens the current version.

        Raises:
            NotFoundError: nothing was ingested into ``folder``.
            DataError: the manifest is damaged.
        """
        manifest = folder / MANIFEST
        if not manifest.is_file():
            raise NotFoundError(f"no data set in {folder}; run: recmesh ingest DIR")
        try:
            parsed = json.loads(manifest.read_text())
            files = {name: folder / file for name, file in parsed["files"].items()}
            return cls(version=str(parsed["version"]), files=files)
        except (ValueError, KeyError, AttributeError) as error:
            raise DataError(f"{manifest} is damaged ({error}); ingest again") from error

    @classmethod
    def open_or_empty(cls, folder: Path) -> Dataset:
        """As :meth:`open`, but without rows where nothing was ingested. Raises DataError."""
        try:
            return cls.open(folder)
        except NotFoundError:
            return cls(version="", files={})

    @property
    def ingested_version(self) -> str:
        """The version of what was ingested, whatever was written since."""
        return self.version.partition(WRITTEN)[0]

    @property
    def catalog_seq(self) -> int:
        """The last write to the catalog that is in it."""
        return self.overlay.changes.through_seq if self.overlay else 0

    def under(self, overlay: CatalogOverlay) -> Dataset:
        """The same data set with what callers wrote since."""
        version = self.version
        if overlay.version:
            version = f"{version}{WRITTEN}{overlay.version}"
        return replace(self, version=version, overlay=overlay)

    def with_recorded(self, recorded: RecordedEvents) -> Dataset:
        """The same data set with recorded events later than its newest ingested one."""
        if not recorded.through_seq:
            return self
        version = f"{self.version}{WRITTEN}e{recorded.through_seq}"
        return replace(self, version=version, recorded=recorded)

    def _table(self, schema: TableSchema) -> pa.Table:
        file = self.files.get(schema.name)
        if file is None:
            table = schema.columns.empty_table()
        else:
            try:
                table = pq.read_table(file, schema=schema.columns)
            except FileNotFoundError as error:
                raise UnavailableError(
                    f"the {schema.name} were rewritten meanwhile; run it again"
                ) from error
        return self.overlay.on(schema, table) if self.overlay else table

    @cached_property
    def items(self) -> pa.Table:
        """Items, in ingestion order."""
        return self._table(TABLES["items"])

    @cached_property
    def users(self) -> pa.Table:
        """Users, in ingestion order."""
        return self._table(TABLES["users"])

    @cached_property
    def events(self) -> pa.Table:
        """Events by ascending time."""
        ingested = self._table(TABLES["events"])
        if self.recorded is None:
            return ingested
        later = self.recorded.after(ingested)
        if self.overlay is not None:
            later = self.overlay.changes.erased.without("events", later)
        return pa.concat_tables([ingested, later]).combine_chunks()

    @cached_property
    def edges(self) -> pa.Table:
        """Edges, in ingestion order."""
        return self._table(TABLES["edges"])

    @cached_property
    def campaigns(self) -> pa.Table:
        """Campaigns, in ingestion order."""
        return self._table(TABLES["campaigns"])
