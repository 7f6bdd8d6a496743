"""Ingestion: checks source files and upserts their rows into the data set."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recmesh.storage.catalog_overlay import CatalogOverlay
from recmesh.storage.dataset import MANIFEST, Dataset
from recmesh.storage.errors import DataError, NotFoundError, UnavailableError
from recmesh.storage.interchange import CITATIONS, QRELS, QUERIES, TABLES, TEXT_LIST, TableSchema
from recmesh.storage.row_validation import check_rows
from recmesh.storage.source_file import SUFFIXES, read_chunks

QUARANTINE = "quarantine"
"""Folder of the rows that were not taken."""

Progress = Callable[[int, int, str], None]
"""Files done, files in all, name of the file at hand."""


@dataclass(slots=True)
class TableCounts:
    """What became of a table's rows; ``read`` is the sum of the next six."""

    read: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    superseded: int = 0
    """Rows that a later row of the same run with the same key replaced."""
    quarantined: int = 0
    erased: int = 0
    """Rows that name a user who was erased; dropped."""
    outranked: int = 0
    """Rows that count for nothing, because a caller wrote or deleted their key."""


@dataclass(slots=True)
class IngestReport:
    """The outcome of one run; ``asdict`` of it is JSON."""

    version: str = ""
    tables: dict[str, TableCounts] = field(default_factory=dict)
    skipped_files: list[str] = field(default_factory=list)
    damaged_files: dict[str, str] = field(default_factory=dict)
    """Files that could not be read, and why; none of their rows were taken."""
    warnings: list[str] = field(default_factory=list)
    events_of_unknown_items: int = 0
    events_of_unknown_users: int = 0

    def as_json(self) -> dict[str, Any]:
        """The report in JSON's types."""
        return asdict(self)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UnavailableError(f"another process is writing {folder}; try again") from error
        yield


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _replace(file: Path, text: str) -> None:
    pending = file.with_name(f".{file.name}.{os.getpid()}")
    pending.write_text(text)
    pending.replace(file)


@dataclass(slots=True)
class _FileContent:
    """What a file held: good rows, records for the quarantine, names of unknown columns."""

    good: list[pa.Table] = field(default_factory=list)
    bad: list[dict[str, Any]] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    read: int = 0


def _read(file: Path, schema: TableSchema) -> _FileContent:
    """Raises DataError where the file as a whole is damaged."""
    content = _FileContent()
    for chunk in read_chunks(file, schema):
        content.unknown |= set(chunk.cells) - set(schema.columns.names)
        for line, reason, text in chunk.broken:
            content.bad.append({"line": line, "reason": reason, "row": text})
        count = len(chunk.lines)
        table, reasons = check_rows(schema, chunk.cells, count, csv=file.suffix == ".csv")
        for index, reason in reasons.items():
            row = chunk.row(index)
            content.bad.append({"line": chunk.lines[index], "reason": reason, "row": row})
        if reasons:
            keep = np.ones(count, dtype=bool)
            keep[list(reasons)] = False
            table = table.filter(pa.array(keep))
        content.good.append(table)
        content.read += count + len(chunk.broken)
    return content


def _quarantine(folder: Path, file: Path, bad: list[dict[str, Any]]) -> None:
    """Replaces the file's record; without bad rows there is none."""
    record = folder / f"{file.name}.jsonl"
    if not bad:
        record.unlink(missing_ok=True)
        return
    folder.mkdir(exist_ok=True)
    bad.sort(key=lambda row: int(row["line"]))
    rows = (json.dumps({"file": file.name, **row}, default=str) for row in bad)
    _replace(record, "\n".join(rows) + "\n")


def _same_rows(old: pa.Table, new: pa.Table) -> int:
    """Number of rows that are equal at equal positions."""
    same = np.ones(old.num_rows, dtype=bool)
    for a, b in zip(old.columns, new.columns, strict=True):
        if a.type == TEXT_LIST:
            a, b = (pc.binary_join(pc.cast(c, TEXT_LIST), "\x1f") for c in (a, b))
        equal = pc.or_kleene(pc.equal(a, b), pc.and_(pc.is_null(a), pc.is_null(b)))
        same &= np.asarray(equal.fill_null(False).to_numpy(), dtype=bool)
    return int(same.sum())


def _upsert(
    schema: TableSchema, old: pa.Table, fresh: list[pa.Table], counts: TableCounts
) -> pa.Table:
    """Old and fresh rows, the last of every key, in order of first appearance.

    Empties ``fresh``, so that a large table is not in memory twice.
    """
    n_old = old.num_rows
    table = pa.concat_tables([old, *fresh]).combine_chunks()
    fresh.clear()
    if table.num_rows == 0:
        return table
    codes = schema.keys_of(table).dictionary_encode()
    codes = (codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes).indices
    last = np.zeros(pc.max(codes).as_py() + 1, dtype=np.int64)
    last[codes.to_numpy()] = np.arange(table.num_rows)  # the last assignment wins
    touched = np.flatnonzero(last[:n_old] >= n_old)
    unchanged = _same_rows(table.take(touched), table.take(last[touched]))
    counts.added += len(last) - n_old
    counts.updated += len(touched) - unchanged
    counts.unchanged += unchanged
    counts.superseded += table.num_rows - n_old - (len(last) - n_old) - len(touched)
    if len(last) < table.num_rows:
        table = table.take(last)
    if schema.name == "events" and (np.diff(table["time"].cast(pa.int64()).to_numpy()) < 0).any():
        table = table.sort_by("time")
    return table


def _write(folder: Path, name: str, table: pa.Table) -> str:
    pending = folder / f".{name}.{os.getpid()}.parquet"
    try:
        pq.write_table(table, pending, compression="zstd")
        file = f"{name}-{_digest(pending)[:16]}.parquet"
        pending.replace(folder / file)
    finally:
        pending.unlink(missing_ok=True)
    return file


def _record(folder: Path, files: dict[str, str], digests: dict[str, str]) -> str:
    """Makes these files the data set, at once; returns its version."""
    version = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]
    state = {"version": version, "files": files, "sources": digests}
    _replace(folder / MANIFEST, json.dumps(state, indent=2, sort_keys=True))
    return version


def _keep_only(folder: Path, names: set[str]) -> None:
    for file in folder.glob("*.parquet"):
        if file.name not in names:
            file.unlink()


def rewrite(folder: Path, keep: Callable[[str, pa.Table], pa.Table]) -> None:
    """Replaces every table by what ``keep``, given its name, keeps of it.

    Versions before are deleted at once, even from under those who read them.

    Raises:
        UnavailableError: an ingest is writing the data set.
    """
    with _locked(folder):
        if not (folder / MANIFEST).is_file():
            return
        record = json.loads((folder / MANIFEST).read_text())
        files: dict[str, str] = dict(record["files"])
        for name, schema in TABLES.items():
            if name in files:
                table = pq.read_table(folder / files[name], schema=schema.columns)
                kept = keep(name, table)
                if kept.num_rows < table.num_rows:
                    files[name] = _write(folder, name, kept)
        _record(folder, files, record.get("sources", {}))
        _keep_only(folder, set(files.values()))


def _given(file: Path) -> bool:
    """Whether a file is meant for ingestion; hidden ones are editors' and file systems'."""
    beside = (QUERIES, QRELS, CITATIONS)
    return file.is_file() and file.name not in beside and not file.name.startswith(".")


def _table_of(file: Path) -> TableSchema | None:
    if file.suffix not in SUFFIXES:
        return None
    return TABLES.get(file.stem.partition("-")[0])


def _unknown(ids: pa.ChunkedArray, known: pa.ChunkedArray) -> int:
    named = ids.filter(pc.not_equal(ids, ""))
    return len(named) - int(pc.sum(pc.is_in(named, known)).as_py() or 0)


class _Run:
    """One ingestion under the lock: nothing of it counts before :meth:`commit`."""

    def __init__(self, home: Path, report: IngestReport, overlay: CatalogOverlay | None) -> None:
        self._home, self._report, self._overlay = home, report, overlay
        manifest = home / MANIFEST
        exists = manifest.is_file()
        self._old = Dataset.open(home) if exists else Dataset("", {})
        record = json.loads(manifest.read_text()) if exists else {}
        self._digests: dict[str, str] = dict(record.get("sources", {}))
        self._files = {name: path.name for name, path in self._old.files.items()}
        self._bad: dict[Path, list[dict[str, Any]]] = {}

    def read(self, file: Path, schema: TableSchema) -> list[pa.Table]:
        """Good rows of a file; none of one that is damaged or was read before."""
        digest = _digest(file)
        if self._digests.get(file.name) == digest:
            self._report.skipped_files.append(file.name)
            return []
        try:
            content = _read(file, schema)
        except DataError as error:
            # Not recorded as seen: until it is mended, every run says so again.
            self._report.damaged_files[file.name] = str(error)
            self._bad[file] = [{"line": 0, "reason": str(error), "row": None}]
            return []
        counts = self._report.tables.setdefault(schema.name, TableCounts())
        counts.read += content.read
        counts.quarantined += len(content.bad)
        self._bad[file] = content.bad
        self._digests[file.name] = digest
        unknown = sorted(content.unknown)
        self._report.warnings += [f"{file.name}: unknown column {c}; ignored" for c in unknown]
        return content.good

    def upsert(self, schema: TableSchema, fresh: list[pa.Table]) -> None:
        """Writes the table anew, if there is anything new for it."""
        if fresh:
            counts = self._report.tables[schema.name]
            if self._overlay is not None:
                for place, rows in enumerate(fresh):
                    fresh[place] = self._overlay.changes.erased.without(schema.name, rows)
                    counts.erased += rows.num_rows - fresh[place].num_rows
                    counts.outranked += self._overlay.outranked(schema, fresh[place])
            # A data set keeps the tables it has read; this one goes with its table.
            old = Dataset(self._old.version, self._old.files)
            table = _upsert(schema, getattr(old, schema.name), fresh, counts)
            if table.num_rows:
                self._files[schema.name] = _write(self._home, schema.name, table)

    def commit(self) -> None:
        """Makes the new version the current one."""
        for file, bad in self._bad.items():
            _quarantine(self._home / QUARANTINE, file, self._without_erased(bad))
        self._count_unknown()
        self._report.version = _record(self._home, self._files, self._digests)
        # Readers may still hold the version before, so only older files go.
        old = {file.name for file in self._old.files.values()}
        _keep_only(self._home, old | set(self._files.values()))

    def abandon(self) -> None:
        """Removes what the current version does not name; it may be the new one already."""
        if (self._home / MANIFEST).is_file():
            current = {file.name for file in Dataset.open(self._home).files.values()}
            _keep_only(self._home, current | {file.name for file in self._old.files.values()})
        else:
            _keep_only(self._home, set())

    def _without_erased(self, bad: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of erased users are not kept, not even as rows that were not taken."""
        if self._overlay is None:
            return bad
        erased = self._overlay.changes.erased
        return [record for record in bad if not erased.named_in(record)]

    def _ids(self, name: str, columns: list[str]) -> pa.Table:
        if name not in self._files:
            return TABLES[name].columns.empty_table().select(columns)
        return pq.read_table(self._home / self._files[name], columns=columns)

    def _count_unknown(self) -> None:
        items, users = self._ids("items", ["item_id"]), self._ids("users", ["user_id"])
        events = self._ids("events", ["item_id", "user_id"])
        # The target of a follow is a user.
        targets = [*items["item_id"].chunks, *users["user_id"].chunks]
        self._report.events_of_unknown_items = _unknown(
            events["item_id"], pa.chunked_array(targets, pa.string())
        )
        self._report.events_of_unknown_users = _unknown(events["user_id"], users["user_id"])


def ingest(
    source: Path,
    home_dataset: Path,
    progress: Progress = lambda *_: None,
    overlay: CatalogOverlay | None = None,
) -> IngestReport:
    """Upserts every file of ``source`` that is new or has changed.

    ``overlay`` is what callers wrote: users whom it erased do not come back, and rows that it
    outranks are counted.

    A file that cannot be read is quarantined as a whole and the others go on. A crash or
    Ctrl-C leaves the version before readable: files are named by content and
    ``dataset.json`` is replaced last, at once.

    Raises:
        NotFoundError: ``source`` is no folder.
        DataError: no file of it names a table.
        UnavailableError: another ingest is writing the same data set.
    """
    if not source.is_dir():
        raise NotFoundError(f"no folder {source}")
    tables = {file: _table_of(file) for file in sorted(source.iterdir()) if _given(file)}
    named = [(file, schema) for file, schema in tables.items() if schema]
    if not named:
        raise DataError(f"{source} has no file named after a table: {', '.join(TABLES)}")
    report = IngestReport()
    report.warnings += [f"{f.name}: names no table; ignored" for f, s in tables.items() if not s]
    with _locked(home_dataset):
        run = _Run(home_dataset, report, overlay)
        try:
            done = 0
            # Table by table, so that only one is in memory at a time.
            for schema in TABLES.values():
                fresh: list[pa.Table] = []
                for file, table in named:
                    if table is schema:
                        progress(done, len(named), file.name)
                        fresh += run.read(file, schema)
                        done += 1
                run.upsert(schema, fresh)
            run.commit()
        except BaseException:
            run.abandon()
            raise
        progress(len(named), len(named), "done")
    return report
