"""Exact search in memory: the reference that other vector indexes are held against."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from recmesh.storage.errors import NotFoundError
from recmesh.storage.vector_index import Float32, IndexedItem, Neighbours

RRF_K = 60
"""Constant of reciprocal rank fusion (Cormack et al. 2009)."""
BM25_K1, BM25_B = 1.2, 0.75


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _best(scores: dict[str, float], limit: int) -> Neighbours:
    best = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
    return Neighbours([id_ for id_, _ in best], np.array([s for _, s in best], np.float32))


def _bm25(items: dict[str, IndexedItem], text: str) -> dict[str, float]:
    """Okapi BM25 of the items that share a word with ``text``."""
    documents = {id_: Counter(_words(item.text)) for id_, item in items.items()}
    mean_length = sum(d.total() for d in documents.values()) / max(len(documents), 1)
    scores: dict[str, float] = {}
    for word in set(_words(text)):
        holders = [id_ for id_, document in documents.items() if word in document]
        idf = math.log(1 + (len(documents) - len(holders) + 0.5) / (len(holders) + 0.5))
        for id_ in holders:
            frequency = documents[id_][word]
            length = 1 - BM25_B + BM25_B * documents[id_].total() / mean_length
            gain = idf * frequency * (BM25_K1 + 1) / (frequency + BM25_K1 * length)
            scores[id_] = scores.get(id_, 0.0) + gain
    return scores


class ExactIndex:
    """A :class:`~recmesh.storage.vector_index.VectorIndex` in memory, for small catalogues."""

    def __init__(self) -> None:
        self._collections: dict[str, dict[str, IndexedItem]] = {}

    def _items(self, collection: str) -> dict[str, IndexedItem]:
        try:
            return self._collections[collection]
        except KeyError:
            raise NotFoundError(f"no collection {collection}") from None

    async def create(self, collection: str, dim: int) -> None:
        """See the port."""
        self._collections[collection] = {}

    async def upsert(self, collection: str, items: Sequence[IndexedItem]) -> None:
        """See the port."""
        self._items(collection).update({item.item_id: item for item in items})

    async def delete(self, collection: str, item_ids: Sequence[str]) -> None:
        """See the port."""
        items = self._items(collection)
        for item_id in item_ids:
            items.pop(item_id, None)

    async def count(self, collection: str) -> int:
        """See the port."""
        return len(self._items(collection))

    async def search(
        self, collection: str, vector: Float32, limit: int, *, timeout_s: float
    ) -> Neighbours:
        """See the port."""
        items = self._items(collection)
        return _best({id_: float(item.vector @ vector) for id_, item in items.items()}, limit)

    async def search_hybrid(
        self, collection: str, vector: Float32, text: str, limit: int, *, timeout_s: float
    ) -> Neighbours:
        """See the port."""
        near = await self.search(collection, vector, limit, timeout_s=timeout_s)
        worded = _best(_bm25(self._items(collection), text), limit)
        fused: dict[str, float] = {}
        for ranking in (near, worded):
            for rank, item_id in enumerate(ranking.item_ids, start=1):
                fused[item_id] = fused.get(item_id, 0.0) + 1 / (RRF_K + rank)
        return _best(fused, limit)

    async def drop(self, collection: str) -> None:
        """See the port."""
        self._collections.pop(collection, None)

    async def close(self) -> None:
        """See the port."""
