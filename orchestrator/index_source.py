"""The vector index as a source: what lies nearest to the user's interests.

What the caller's filter and the strictest eligibility rules leave is all the index looks at,
so that a narrow filter still finds enough. Eligibility runs again after it, on the catalog,
and is the authority: nothing is shown because the index says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.admission import Admitted
from recmesh.orchestrator.found import NOTHING, Found
from recmesh.orchestrator.mesh import Mesh
from recmesh.storage.embedding_registry import EMBEDDER, EmbeddingVersion
from recmesh.storage.index_filter import AnyOf, Between, Condition, IndexFilter, storable
from recmesh.storage.vector_index import Hits, IndexQuery, VectorIndex
from recmesh.storage.vector_schema import ITEM_INDEX
from recmesh.v1 import common_pb2, model_pb2

Float32 = npt.NDArray[np.float32]

VECTOR_INDEX = "vector-index"
UNAVAILABLE = common_pb2.SOURCE_STATE_UNAVAILABLE


def _conditions(request: Admitted) -> Iterator[Condition]:
    now_unix_s, wanted = request.now_unix_s, request.message.filter
    yield Between("published_at", at_most=now_unix_s)
    yield Between("expires_at", at_least=now_unix_s + 1)
    yield AnyOf("countries", (request.country,), or_empty=True)
    for field, values in (
        ("content_type", wanted.content_types),
        ("specialties", wanted.specialties),
        ("topics", wanted.topics),
        ("language", wanted.languages),
    ):
        if values:
            yield AnyOf(field, tuple(values))
    if wanted.HasField("published_after"):
        yield Between("published_at", at_least=wanted.published_after.seconds)
    if wanted.HasField("published_before"):
        yield Between("published_at", at_least=1, at_most=wanted.published_before.seconds - 1)


def index_filter(request: Admitted) -> IndexFilter:
    """What the index need not look at: it drops no item that eligibility would keep.

    Holds as long as the index has the catalog's values; what the catalog has and the index
    cannot hold (:func:`~recmesh.storage.index_filter.storable`) does not narrow.
    """
    conditions = (
        condition
        for condition in _conditions(request)
        if isinstance(condition, Between) or all(map(storable, condition.values))
    )
    return IndexFilter(ITEM_INDEX, tuple(conditions))


def lacks(
    request: Admitted, detail: str, state: common_pb2.SourceState.ValueType = UNAVAILABLE
) -> None:
    """Says what the index was asked without."""
    request.calls.record(VECTOR_INDEX, state, 0.0, detail)


@dataclass(frozen=True, slots=True)
class OpenIndex:
    """The index and the embedding version that the request searches."""

    index: VectorIndex
    embedding: EmbeddingVersion


def opened(mesh: Mesh, request: Admitted) -> OpenIndex | None:
    """What to search; None, and said, when no embedding version is live."""
    if mesh.index is None or request.snapshot.embedding is None:
        lacks(request, "no embedding version is live")
        return None
    return OpenIndex(mesh.index, request.snapshot.embedding)


class Embedded(NamedTuple):
    """Vectors to search with ``[n, dim]``, and the query as the model read it."""

    vectors: Float32
    read_as: str = ""


async def embed(
    mesh: Mesh, request: Admitted, embedding: EmbeddingVersion, wanted: model_pb2.EmbedRequest
) -> Embedded | None:
    """Asks the language model; None when there is no vector, recorded if by a failure."""
    if EMBEDDER not in mesh.models.clients:
        lacks(request, "no model embeds in this mesh")
        return None
    wanted.request_id = request.request_id
    wanted.now_unix_s = request.now_unix_s
    wanted.embedding_version = embedding.version
    embedded = await request.calls.ask(
        EMBEDDER,
        request.surface.source_timeout_s,
        lambda timeout_s: mesh.models.clients[EMBEDDER].embed(wanted, timeout_s=timeout_s),
    )
    if embedded is None:
        lacks(request, "no vector to search with")
        return None
    if len(embedded.missing) > 0:
        return None
    if embedded.embedding_version != embedding.version:
        spoken = f"encoder speaks {embedded.embedding_version}, the index {embedding.version}"
        lacks(request, spoken, common_pb2.SOURCE_STATE_ERROR)
        return None
    values = np.array(embedded.values, np.float32)
    if len(values) == 0 or len(values) % embedding.dim:
        given = f"encoder gave {len(values)} values for vectors of {embedding.dim}"
        lacks(request, given, common_pb2.SOURCE_STATE_ERROR)
        return None
    read_as = embedded.read_as[0] if embedded.read_as else ""
    return Embedded(values.reshape(-1, embedding.dim), read_as)


async def search(request: Admitted, opened: OpenIndex, query: IndexQuery) -> Hits | None:
    """The best rows of every leg; None, and recorded, when the index does not answer."""
    where, limit = index_filter(request), request.surface.source_limit
    found = await request.calls.ask(
        VECTOR_INDEX,
        request.surface.source_timeout_s,
        lambda timeout_s: opened.index.search(
            opened.embedding.collection, query, limit, where=where, timeout_s=timeout_s
        ),
    )
    if found is not None:
        request.calls.statuses[VECTOR_INDEX].version = opened.embedding.version
    return found


async def from_interests(mesh: Mesh, request: Admitted) -> Found:
    """What lies nearest to the user's vectors; scores fall from 1 with the rank."""
    source = opened(mesh, request)
    if source is None:
        return NOTHING
    wanted = model_pb2.EmbedRequest(user=request.features)
    embedded = await embed(mesh, request, source.embedding, wanted)
    if embedded is None:
        return NOTHING
    found = await search(request, source, IndexQuery(embedded.vectors))
    if found is None:
        return NOTHING
    limit = request.surface.source_limit
    ids = found.ids[:limit]
    # Cosines of different users have different scales; ranks read the same for all.
    scores = (1.0 - np.arange(len(ids)) / limit).astype(np.float32)
    return Found(request.catalog.rows(ids), scores)
