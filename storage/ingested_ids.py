"""Which ids the data set has, kept in memory until it changes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

from recmesh.storage.dataset import Dataset
from recmesh.storage.errors import NotFoundError
from recmesh.storage.interchange import TABLES


class IngestedIds:
    """Ids of tables whose key is one column. Calls may read files: make them in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids: dict[str, tuple[Path, frozenset[str]]] = {}

    def among(self, table: str, ids: Iterable[str]) -> list[str]:
        """Those of the ids that the current version of the data set has."""
        try:
            file = Dataset.open(self._folder).files.get(table)
        except NotFoundError:
            file = None
        if file is None:
            return []
        known_file, known = self._ids.get(table, (None, frozenset()))
        if file != known_file:
            (column,) = TABLES[table].key
            known = frozenset(pq.read_table(file, columns=[column])[column].to_pylist())
            self._ids[table] = file, known
        return [id_ for id_ in ids if id_ in known]
