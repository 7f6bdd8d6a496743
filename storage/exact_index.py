"""Exact search in memory: the reference that other vector indexes are held against."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from recmesh.storage.errors import ConfigurationError, NotFoundError
from recmesh.storage.index_filter import Column, IndexFilter
from recmesh.storage.index_rows import IndexRows
from recmesh.storage.vector_index import Float32, Hits, IndexQuery, check_field, check_limit
from recmesh.storage.vector_schema import VECTOR, IndexSchema

BM25_K1, BM25_B = 1.2, 0.75
Int64 = npt.NDArray[np.int64]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


@dataclass(frozen=True, slots=True)
class _Row:
    vector: Float32
    text: str
    values: dict[str, object]


@dataclass(frozen=True)
class _Columns:
    """All rows of a collection, aligned."""

    ids: list[str]
    vectors: Float32
    """Unit length ``[n, dim]``."""
    texts: list[str]
    columns: dict[str, Column]

    @classmethod
    def of(cls, rows: dict[str, _Row], dim: int, schema: IndexSchema) -> _Columns:
        stacked = np.array([row.vector for row in rows.values()], np.float32).reshape(-1, dim)
        columns = {name: [row.values[name] for row in rows.values()] for name in schema.by_name}
        texts = [row.text for row in rows.values()]
        return cls(list(rows), _unit(stacked), texts, columns)  # type: ignore[arg-type]

    @cached_property
    def documents(self) -> list[Counter[str]]:
        return [Counter(_words(text)) for text in self.texts]

    @cached_property
    def lengths(self) -> npt.NDArray[np.float64]:
        """Of every text, relative to the mean."""
        words = np.array([document.total() for document in self.documents], np.float64)
        return words / max(float(words.mean()), 1e-9) if len(words) else words

    def bm25(self, text: str) -> npt.NDArray[np.float64]:
        """Okapi BM25 of every row ``[n]``; 0: shares no word with the text."""
        scores = np.zeros(len(self.ids))
        for word, times in Counter(_words(text)).items():
            frequency = np.array([document[word] for document in self.documents], np.float64)
            holders = int((frequency > 0).sum())
            idf = np.log(1 + (len(self.ids) - holders + 0.5) / (holders + 0.5))
            length = 1 - BM25_B + BM25_B * self.lengths
            scores += times * idf * frequency * (BM25_K1 + 1) / (frequency + BM25_K1 * length)
        return scores


def _unit(vectors: Float32) -> Float32:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(vectors / lengths, np.float32)


@dataclass(slots=True)
class _Collection:
    schema: IndexSchema
    dim: int
    rows: dict[str, _Row] = field(default_factory=dict)
    columns: _Columns | None = None
    """Made by the first search after a write."""

    def searchable(self) -> _Columns:
        if self.columns is None:
            self.columns = _Columns.of(self.rows, self.dim, self.schema)
        return self.columns


def _best(scores: npt.NDArray[np.floating], eligible: Int64, limit: int) -> Int64:
    """The rows with the highest scores of those eligible, best first; ties by row."""
    offered = scores[eligible]
    if limit < len(eligible):
        worst = np.partition(offered, -limit)[-limit]
        eligible = eligible[offered >= worst]
        offered = scores[eligible]
    return eligible[np.argsort(-offered, kind="stable")[:limit]]


class ExactIndex:
    """A :class:`~recmesh.storage.vector_index.VectorIndex` in memory, for small catalogues."""

    def __init__(self) -> None:
        self._collections: dict[str, _Collection] = {}

    def _collection(self, name: str, schema: IndexSchema | None = None) -> _Collection:
        found = self._collections.get(name)
        if found is None:
            raise NotFoundError(f"no collection {name}")
        if schema is not None and schema != found.schema:
            raise ConfigurationError(f"{name} holds {found.schema.name}, not {schema.name}")
        return found

    async def create(
        self, collection: str, schema: IndexSchema, dim: int, *, expected_rows: int = 0
    ) -> None:
        """See the port."""
        self._collections[collection] = _Collection(schema, dim)

    async def upsert(self, collection: str, rows: IndexRows) -> None:
        """See the port."""
        held = self._collection(collection, rows.schema)
        checked = rows.checked(held.dim)
        names = list(checked.columns)
        values = zip(*checked.columns.values(), strict=True)
        for id_, vector, text, row in zip(
            checked.ids, checked.vectors, checked.texts, values, strict=True
        ):
            held.rows[id_] = _Row(vector, text, dict(zip(names, row, strict=True)))
        held.columns = None

    async def delete(self, collection: str, ids: Sequence[str]) -> None:
        """See the port."""
        held = self._collection(collection)
        for id_ in ids:
            held.rows.pop(id_, None)
        held.columns = None

    async def count(self, collection: str) -> int:
        """See the port."""
        return len(self._collection(collection).rows)

    async def content_hashes(self, collection: str) -> dict[str, str]:
        """See the port."""
        rows = self._collection(collection).rows
        return {id_: str(row.values["content_hash"]) for id_, row in rows.items()}

    async def fetch(
        self, collection: str, ids: Sequence[str], field: str, *, timeout_s: float
    ) -> dict[str, Any]:
        """See the port."""
        held = self._collection(collection)
        check_field(field, held.schema.by_name)
        if ids:
            check_limit(len(ids))
        rows = {id_: held.rows[id_] for id_ in ids if id_ in held.rows}
        if field == VECTOR:
            return {id_: row.vector for id_, row in rows.items()}
        return {id_: row.values[field] for id_, row in rows.items()}

    async def search(
        self,
        collection: str,
        query: IndexQuery,
        limit: int,
        *,
        where: IndexFilter | None = None,
        timeout_s: float,
    ) -> Hits:
        """See the port."""
        held = self._collection(collection, where.schema if where else None)
        check_limit(limit)
        asked = query.checked(held.dim)
        rows = held.searchable()
        count = len(rows.ids)
        eligible = np.flatnonzero(
            where.mask(rows.columns, count) if where else np.ones(count, bool)
        )
        legs = []
        if asked.vectors is not None:
            for cosines in _unit(asked.vectors) @ rows.vectors.T:
                best = _best(cosines, eligible, limit)
                legs.append(([rows.ids[row] for row in best.tolist()], cosines[best]))
        if asked.text:
            scores = rows.bm25(asked.text)
            best = _best(scores, eligible[scores[eligible] > 0], limit)
            found = scores[best].astype(np.float32)
            legs.append(([rows.ids[row] for row in best.tolist()], found))
        return Hits.joined(legs, words=int(bool(asked.text)))

    async def drop(self, collection: str) -> None:
        """See the port."""
        self._collections.pop(collection, None)

    async def close(self) -> None:
        """See the port."""
