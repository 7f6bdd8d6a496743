"""Search, step by step: understand, look up, ask earlier queries, fuse, look again.

How it is put together and what each step is worth: ``docs/search.md``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.admission import Admitted
from recmesh.orchestrator.found import NOTHING, Found
from recmesh.orchestrator.index_source import (
    VECTOR_INDEX,
    OpenIndex,
    embed,
    opened,
    search,
)
from recmesh.orchestrator.mesh import Mesh
from recmesh.orchestrator.model_source import proposals, retrieve_request
from recmesh.orchestrator.relevance_feedback import moved_query
from recmesh.orchestrator.search_fusion import fuse, share_of_best
from recmesh.storage.embedding_registry import EMBEDDER
from recmesh.storage.vector_index import Hits, IndexQuery
from recmesh.storage.vector_schema import VECTOR
from recmesh.storage.word_analysis import DEFAULT_LANGUAGE, analysed_query
from recmesh.v1 import model_pb2

Float32 = npt.NDArray[np.float32]
Scores = dict[str, float]
"""By item id."""


@dataclass(frozen=True, slots=True)
class _Legs:
    """What was found, by the way it was found."""

    dense: Scores
    words: Scores
    earlier: Scores | None
    """None: nobody was there to ask."""

    def fused(self, request: Admitted) -> tuple[list[str], Float32]:
        """All items found, best first, and their fused scores ``[n]``."""
        ids = list(dict.fromkeys([*self.dense, *self.words, *(self.earlier or ())]))

        def column(leg: Scores) -> Float32:
            return np.array([leg.get(id_, np.nan) for id_ in ids], np.float32)

        earlier = None if self.earlier is None else column(self.earlier)
        scores = fuse(column(self.dense), column(self.words), request.surface.fusion, earlier)
        order = np.argsort(-scores, kind="stable")
        return [ids[row] for row in order.tolist()], scores[order]


def _by_id(hits: Hits, scores: Float32) -> Scores:
    found = ~np.isnan(scores)
    ids = [hits.ids[row] for row in np.flatnonzero(found).tolist()]
    return dict(zip(ids, scores[found].tolist(), strict=True))


async def from_query(mesh: Mesh, request: Admitted) -> Found:
    """Items that answer the query, best first; scores from 1, the best, to 0, the worst found.

    Each step that fails is done without, and said: without a vector a query is still searched
    by its words.
    """
    source = opened(mesh, request)
    if source is None:
        return NOTHING
    typed = request.message.query

    # Understand: the vector, and the spelling.
    wanted = model_pb2.EmbedRequest(
        texts=model_pb2.TextBatch(texts=[typed]), correct_spelling=not request.message.as_typed
    )
    embedded = await embed(mesh, request, source.embedding, wanted)
    read_as = embedded.read_as if embedded else ""
    # What was typed counts, too: a word that is unknown to the model may have become known.
    languages = (request.language, DEFAULT_LANGUAGE)
    words = analysed_query([typed, read_as], languages)
    vectors = embedded.vectors if embedded else None
    if vectors is None and not words:
        return NOTHING

    # Look up, and ask earlier queries.
    hits, earlier = await asyncio.gather(
        search(request, source, IndexQuery(vectors, words)),
        _earlier(mesh, request, read_as or typed),
    )
    if hits is None:
        return NOTHING
    legs = _Legs(_by_id(hits, hits.dense), _by_id(hits, hits.words), earlier)

    # Fuse, and look again from where that leads.
    ids, scores = legs.fused(request)
    if vectors is not None:
        again = await _looked_again(request, source, vectors[0], ids, scores)
        if again is not None:
            ids, scores = _Legs(_by_id(again, again.dense), legs.words, earlier).fused(request)
    ids, scores = ids[: request.surface.source_limit], scores[: request.surface.source_limit]
    return Found(request.catalog.rows(ids), share_of_best(scores), read_as)


async def _earlier(mesh: Mesh, request: Admitted, query: str) -> Scores | None:
    """What earlier queries led to, by the language model's log."""
    if request.surface.fusion.earlier_weight == 0.0 or not mesh.models.can(
        EMBEDDER, model_pb2.CAPABILITY_RETRIEVE, request.message.surface
    ):
        return None
    answer = await proposals(mesh, request, EMBEDDER, retrieve_request(request, query))
    return None if answer is None else dict(zip(answer.item_ids, answer.scores, strict=True))


async def _looked_again(
    request: Admitted, source: OpenIndex, query: Float32, ids: list[str], scores: Float32
) -> Hits | None:
    """A second search by meaning, from where the first one's best items are."""
    settings = request.surface.feedback
    if not settings.items or not ids:
        return None
    first = ids[: settings.items]
    vectors = await request.calls.ask(
        VECTOR_INDEX,
        request.surface.source_timeout_s,
        lambda timeout_s: source.index.fetch(
            source.embedding.collection, first, VECTOR, timeout_s=timeout_s
        ),
    )
    if not vectors:
        return None
    known = [row for row, id_ in enumerate(first) if id_ in vectors]
    near = np.stack([vectors[first[row]] for row in known])
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    moved = moved_query(query, near, scores[known], settings)
    return await search(request, source, IndexQuery(moved[None, :]))
