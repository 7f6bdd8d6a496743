"""A collection of texts with judged queries, and the queries that were asked before them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow.parquet as pq

from recmesh.models.nlp.training import item_text
from recmesh.offline.datasets import nfcorpus
from recmesh.offline.datasets.judged_queries import JudgedQueries, Query
from recmesh.storage.errors import DataError, NotFoundError
from recmesh.storage.interchange import QUERIES

EARLIER_SPLIT = "train"
HALVES = {"tune": 0, "validate": 1}
"""``dev-tune`` and ``dev-validate`` are halves of ``dev``, by a hash of the query's id."""

Grades = dict[str, int]
"""Relevance above 0 by item id."""


@dataclass(frozen=True)
class SearchCollection:
    """Items, judged queries, and the query log that search may learn from."""

    item_ids: Sequence[str]
    titles: Sequence[str]
    abstracts: Sequence[str]
    queries: Sequence[Query]
    """Queries of the split with at least one relevant item."""
    grades: Sequence[Grades]
    """Of each query."""
    earlier: Sequence[tuple[str, Grades]]
    """Queries of the training split with their relevant items. None has the words of a judged
    query: those would be looked up, not searched."""

    @cached_property
    def texts(self) -> list[str]:
        """Title and abstract, as they are embedded and indexed."""
        pairs = zip(self.titles, self.abstracts, strict=True)
        return [item_text(title, abstract) for title, abstract in pairs]

    @classmethod
    def load(cls, folder: Path, split: str) -> SearchCollection:
        """Reads NFCorpus as published, or a folder that ``recmesh datasets convert`` wrote.

        Args:
            folder: the data.
            split: the data set's own (``test``, ``dev``), or half of it: ``dev-tune``,
                ``dev-validate``.

        Raises:
            NotFoundError: no such folder or split.
            DataError: a file is damaged.
        """
        name, _, half = split.partition("-")
        if half and half not in HALVES:
            raise NotFoundError(f"no half {half!r} of a split; there are {', '.join(HALVES)}")
        items, judged = _read(folder, name)
        grades: dict[str, Grades] = {}
        known = set(items[0])
        for query_id, item_id, grade in judged.judgements:
            if grade > 0 and item_id in known:
                grades.setdefault(query_id, {})[item_id] = grade
        asked = [query for query in judged.queries if query.query_id in grades]
        chosen = [query for query in asked if query.split == name]
        if half:
            chosen = [query for query in chosen if _half(query) == HALVES[half]]
        if not chosen:
            splits = sorted({query.split for query in asked})
            raise NotFoundError(
                f"{folder} has no judged queries of the split {split!r}; it has those of "
                f"{', '.join(splits) or 'no split'}"
            )
        words = {query.text.casefold() for query in chosen}
        earlier = [
            (query.text, grades[query.query_id])
            for query in asked
            if query.split == EARLIER_SPLIT != name and query.text.casefold() not in words
        ]
        return cls(*items, chosen, [grades[query.query_id] for query in chosen], earlier)


def _half(query: Query) -> int:
    return hashlib.blake2b(query.query_id.encode()).digest()[0] % 2


Items = tuple[list[str], list[str], list[str]]


def _read(folder: Path, split: str) -> tuple[Items, JudgedQueries]:
    if not folder.is_dir():
        raise NotFoundError(f"no folder {folder}; name NFCorpus as downloaded, or converted data")
    if not (folder / QUERIES).is_file():
        try:
            # Where there is no such split, the data set's own files tell.
            conversion = nfcorpus.convert(folder, split)
        except FileNotFoundError as error:
            raise NotFoundError(
                f"{folder} is neither NFCorpus with a split {split!r} ({error.filename} is "
                f"missing) nor a converted data set ({QUERIES} is missing)"
            ) from error
        except (ValueError, TypeError) as error:
            raise DataError(f"{folder} is not NFCorpus: {error}") from error
        assert conversion.queries is not None
        rows, judged = conversion.rows["items"], conversion.queries
    else:
        file = folder / "items.parquet"
        if not file.is_file():
            raise NotFoundError(f"{file} is missing; run: recmesh datasets convert")
        # Columns that are empty throughout are not written.
        rows, judged = pq.read_table(file).to_pylist(), JudgedQueries.load(folder)
    return (
        [str(row["item_id"]) for row in rows],
        [str(row["title"]) for row in rows],
        [str(row.get("abstract") or "") for row in rows],
    ), judged
