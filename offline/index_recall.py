"""How much of what exact search finds a vector index finds, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from recmesh.models.model import Float32, Model, User
from recmesh.orchestrator.user_store import UserStore
from recmesh.storage.dataset import Dataset
from recmesh.storage.vector_index import IndexQuery, VectorIndex

K = 100
SAMPLED = 100
"""Of each kind: item vectors, users, and queries that were asked."""
LATEST = 20_000
"""Events that queries are taken from."""
TIE = 1e-5
"""Cosines that differ by less are alike: which of them an index names is its own affair."""
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Vectors to search with, by what they stand for."""

    vectors: Mapping[str, Float32]
    """``[n, dim]`` each; kinds of which there are none are left out."""


def sample(model: Model, dataset: Dataset, item_vectors: Float32, seed: int = 0) -> Sample:
    """Item vectors as they are stored, users as they are now, and queries as they were asked."""
    draw = np.random.default_rng(seed)

    def some(count: int) -> list[int]:
        return sorted(draw.permutation(count)[:SAMPLED].tolist())

    found: dict[str, Float32] = {"items": item_vectors[some(len(item_vectors))]}
    store = UserStore(dataset)
    user_ids = store.user_ids
    users = [_embedded(model, store, user_ids[row]) for row in some(len(user_ids))]
    found["users"] = np.array([vector for vector in users if vector is not None], np.float32)
    asked = pc.unique(dataset.events["query"].slice(max(len(dataset.events) - LATEST, 0)))
    queries = [query for query in asked.to_pylist() if query]
    if queries:
        found["queries"] = model.embed_texts([queries[row] for row in some(len(queries))])
    return Sample({kind: vectors for kind, vectors in found.items() if len(vectors)})


def _embedded(model: Model, store: UserStore, user_id: str) -> Float32 | None:
    profile = store.get(user_id)
    times = profile.history_times_unix_s
    user = User(
        user_id,
        profile.history_item_ids,
        profile.history_event_types,
        times,
        profile.specialties,
    )
    return model.embed_user(user, times[-1] if times else 0)


async def recall(
    index: VectorIndex,
    collection: str,
    item_ids: Sequence[str],
    item_vectors: Float32,
    queries: Float32,
) -> float:
    """Mean share of the 100 nearest items that the index finds.

    Args:
        index: to ask.
        collection: holds the items.
        item_ids: of all items ``[n]``.
        item_vectors: theirs, of unit length ``[n, dim]``.
        queries: of unit length ``[m, dim]``, m > 0.
    """
    row_of = {item_id: row for row, item_id in enumerate(item_ids)}
    wanted = min(K, len(item_ids))
    shares = []
    for query in queries:
        cosines = item_vectors @ query
        worst = np.partition(cosines, -wanted)[-wanted] - TIE
        hits = await index.search(collection, IndexQuery(query[None]), wanted, timeout_s=TIMEOUT_S)
        rows = [row_of[item_id] for item_id in hits.ids if item_id in row_of]
        shares.append(int((cosines[rows] >= worst).sum()) / wanted)
    return float(np.mean(shares))
