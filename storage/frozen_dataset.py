"""A data set that is held still while long work reads it.

``recmesh ingest`` deletes the files of the version that it replaces. Here each has a second
name, which costs no space, so that work of hours reads one version from beginning to end. The
erasure of a user ends such work: it takes away what was held.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recmesh.storage.dataset import Dataset
from recmesh.storage.erased_users import USER_COLUMNS, ErasedUsers
from recmesh.storage.errors import UnavailableError


class FrozenDataset:
    """One version of a data set, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hold(self, dataset: Dataset) -> Dataset:
        """The same data set, from files that stay until :meth:`release`.

        Raises:
            UnavailableError: it was replaced or erased from at this very moment.
        """
        self.release()
        self._folder.mkdir(parents=True)
        files = {}
        for name, file in dataset.files.items():
            files[name] = self._folder / file.name
            try:
                _link(file, files[name])
            except FileNotFoundError as error:
                raise UnavailableError(f"the {name} were rewritten meanwhile; try again") from error
        if dataset.recorded is not None:
            # For :meth:`erase` alone.
            pq.write_table(dataset.recorded.events, self._folder / "events-recorded.parquet")
        return replace(dataset, files=files)

    def check(self) -> None:
        """Raises UnavailableError when a user in it was erased since."""
        if not self._folder.is_dir():
            raise UnavailableError("a user was erased from the data meanwhile; run it again")

    def release(self) -> None:
        """Lets go of the files."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def erase(self, erased: ErasedUsers) -> None:
        """Takes it away when it names an erased user."""
        for file in self._folder.glob("*.parquet"):
            columns = USER_COLUMNS.get(file.stem.partition("-")[0], ())
            if columns and _names(pq.read_table(file, columns=list(columns)), erased):
                self.release()
                return


def _link(file: Path, name: Path) -> None:
    try:
        os.link(file, name)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(file, name)  # this file system has no links


def _names(table: pa.Table, erased: ErasedUsers) -> bool:
    return any(erased.among(pc.unique(column).to_pylist()) for column in table.columns)
