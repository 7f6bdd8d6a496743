"""The vector index as a source: by the user's interests, or by the query's meaning and words.

What the caller's filter and the strictest eligibility rules leave is all the index looks at,
so that a narrow filter still finds enough. Eligibility runs again after it, on the catalog,
and is the authority: nothing is shown because the index says so.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.admission import Admitted
from recmesh.orchestrator.mesh import Mesh
from recmesh.orchestrator.search_fusion import fuse
from recmesh.storage.embedding_registry import EmbeddingVersion
from recmesh.storage.index_filter import AnyOf, Between, Condition, IndexFilter, storable
from recmesh.storage.vector_index import IndexQuery
from recmesh.storage.vector_schema import ITEM_INDEX
from recmesh.v1 import common_pb2, model_pb2

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]

VECTOR_INDEX = "vector-index"
EMBEDDER = "nlp"
UNAVAILABLE = common_pb2.SOURCE_STATE_UNAVAILABLE


def _conditions(request: Admitted) -> Iterator[Condition]:
    now_unix_s, wanted = request.now_unix_s, request.message.filter
    country = request.message.context.country or request.user.country
    yield Between("published_at", at_most=now_unix_s)
    yield Between("expires_at", at_least=now_unix_s + 1)
    yield AnyOf("countries", (country,), or_empty=True)
    for field, values in (
        ("content_type", wanted.content_types),
        ("specialties", wanted.specialties),
        ("language", wanted.languages),
    ):
        if values:
            yield AnyOf(field, tuple(values))
    if wanted.HasField("published_after"):
        yield Between("published_at", at_least=wanted.published_after.seconds)


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


def _lacks(
    request: Admitted, detail: str, state: common_pb2.SourceState.ValueType = UNAVAILABLE
) -> None:
    request.calls.record(VECTOR_INDEX, state, 0.0, detail)


async def _vectors(mesh: Mesh, request: Admitted, embedding: EmbeddingVersion) -> Float32 | None:
    """Vectors to search with ``[n, dim]``; None when there are none, recorded if by a failure."""
    if EMBEDDER not in mesh.models.clients:
        _lacks(request, "no model embeds in this mesh")
        return None
    wanted = model_pb2.EmbedRequest(
        request_id=request.request_id,
        now_unix_s=request.now_unix_s,
        embedding_version=embedding.version,
    )
    if request.message.query:
        wanted.texts.texts.append(request.message.query)
    else:
        wanted.user.CopyFrom(request.features)
    embedded = await request.calls.ask(
        EMBEDDER,
        request.surface.source_timeout_s,
        lambda timeout_s: mesh.models.clients[EMBEDDER].embed(wanted, timeout_s=timeout_s),
    )
    if embedded is None:
        _lacks(request, "no vector to search with")
        return None
    if len(embedded.missing) > 0:
        return None
    if embedded.embedding_version != embedding.version:
        spoken = f"encoder speaks {embedded.embedding_version}, the index {embedding.version}"
        _lacks(request, spoken, common_pb2.SOURCE_STATE_ERROR)
        return None
    values = np.array(embedded.values, np.float32)
    if len(values) == 0 or len(values) % embedding.dim:
        given = f"encoder gave {len(values)} values for vectors of {embedding.dim}"
        _lacks(request, given, common_pb2.SOURCE_STATE_ERROR)
        return None
    return values.reshape(-1, embedding.dim)


async def from_index(mesh: Mesh, request: Admitted) -> tuple[Int32, Float32]:
    """Catalog rows that the index proposes, best first, and their scores in (0, 1].

    Without a vector a query is still searched by its words; what was missing is said.
    """
    nothing = np.empty(0, np.int32), np.empty(0, np.float32)
    embedding = request.snapshot.embedding
    if mesh.index is None or embedding is None:
        _lacks(request, "no embedding version is live")
        return nothing
    vectors = await _vectors(mesh, request, embedding)
    query = IndexQuery(vectors, request.message.query)
    if vectors is None and not query.text.strip():
        return nothing
    index, limit = mesh.index, request.surface.source_limit
    where = index_filter(request)
    found = await request.calls.ask(
        VECTOR_INDEX,
        request.surface.source_timeout_s,
        lambda timeout_s: index.search(
            embedding.collection, query, limit, where=where, timeout_s=timeout_s
        ),
    )
    if found is None:
        return nothing
    request.calls.statuses[VECTOR_INDEX].version = embedding.version
    best = np.argsort(-fuse(found.dense, found.words), kind="stable")[:limit]
    # Fused scores and cosines have different scales; the rank reads the same for both.
    scores = (1.0 - np.arange(len(best)) / limit).astype(np.float32)
    return request.catalog.rows([found.ids[row] for row in best.tolist()]), scores
