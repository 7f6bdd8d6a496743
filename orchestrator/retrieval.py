"""Stage 2: candidates from every source of the surface, all at once.

Models and the vector index are asked in parallel, each within its own timeout. What is
popular and what is fresh comes from the catalog in memory, so there is always a floor
that needs no model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.admission import Admitted
from recmesh.orchestrator.campaigns.offers import CAMPAIGNS, Offers
from recmesh.orchestrator.found import NOTHING, Found
from recmesh.orchestrator.index_source import VECTOR_INDEX, from_interests
from recmesh.orchestrator.mesh import Mesh
from recmesh.orchestrator.model_source import from_model, retrieve_request
from recmesh.orchestrator.query_search import from_query
from recmesh.storage.telemetry.mesh_measures import CANDIDATES
from recmesh.storage.telemetry.spans import recorded_span
from recmesh.v1 import common_pb2, model_pb2

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]

POPULAR = "popular"
FRESH = "fresh"
PINNED = "pinned"
"""Not a source that a policy names: items that it pins are candidates in any case."""
ENOUGH_CANDIDATES = 100
"""The longest page; a constant, so that all pages of a request are cuts of one slate."""


@dataclass(slots=True)
class Candidates:
    """What was retrieved."""

    rows: Int32
    """Distinct catalog rows, in a stable order: by source, then by the source's rank."""
    proposed: dict[str, Int32] = field(default_factory=dict)
    """Every source's rows, best first."""
    raw_scores: dict[str, Float32] = field(default_factory=dict)
    """Of every source that scores, a column aligned with ``rows``; NaN where it gave none."""
    read_as: str = ""
    """The query as it was searched, when its spelling was corrected; empty: as typed."""


async def _from(
    mesh: Mesh, request: Admitted, source: str, wanted: model_pb2.RetrieveRequest
) -> Found:
    if request.snapshot.asked(source) in mesh.models.clients:
        return await from_model(mesh, request, source, wanted)
    if source == VECTOR_INDEX:
        ask = from_query if request.message.query else from_interests
        return await ask(mesh, request)
    if source in (POPULAR, FRESH):
        catalog = request.catalog
        rows = (catalog.popular_rows if source == POPULAR else catalog.fresh_rows)[
            : request.floor_limit
        ]
        request.calls.record(source, common_pb2.SOURCE_STATE_OK, 0.0).version = catalog.version
        return Found(rows, np.empty(0, np.float32))
    request.calls.record(
        source, common_pb2.SOURCE_STATE_UNAVAILABLE, 0.0, "not deployed in this mesh"
    )
    return NOTHING


def _joined(request: Admitted, answers: Mapping[str, Found]) -> Candidates:
    """What all sources proposed, each candidate once."""
    known = {source: found.rows >= 0 for source, found in answers.items()}
    proposed = {source: found.rows[known[source]] for source, found in answers.items()}
    distinct, first, place = np.unique(
        np.concatenate(list(proposed.values())), return_index=True, return_inverse=True
    )
    by_first = np.argsort(first)
    position = np.empty(len(distinct), np.intp)
    position[by_first] = np.arange(len(distinct))
    place = position[place]
    joined = Candidates(distinct[by_first], proposed)
    start = 0
    for source, found in answers.items():
        count = len(proposed[source])
        if len(found.scores):
            column = np.full(len(distinct), np.nan, np.float32)
            column[place[start : start + count]] = found.scores[known[source]]
            joined.raw_scores[source] = column
        joined.read_as = joined.read_as or found.read_as
        start += count
        request.calls.statuses.setdefault(
            source, common_pb2.SourceStatus(name=source, state=common_pb2.SOURCE_STATE_OK)
        ).candidate_count = count
    return joined


async def retrieve(mesh: Mesh, request: Admitted, offers: Offers) -> Candidates:
    """Asks every source of the surface and joins what they propose.

    What campaigns offer is a candidate, too, unless there is a query or the caller brings the
    candidates: then only what was found may be sponsored.

    What is popular joins a surface that does not name it when the others propose little, as
    they do when they are down: a page is never empty because of that.
    """
    if request.message.candidate_item_ids:
        rows = request.catalog.rows(list(request.message.candidate_item_ids))
        return Candidates(rows[rows >= 0])
    surface = request.message.surface
    sources = [
        source
        for source in request.surface.sources
        if (asked := request.snapshot.asked(source)) not in mesh.models.clients
        or mesh.models.can(asked, model_pb2.CAPABILITY_RETRIEVE, surface)
    ]
    wanted = retrieve_request(request, request.message.query)
    found = await asyncio.gather(*(_from(mesh, request, source, wanted) for source in sources))
    answers = dict(zip(sources, found, strict=True))
    if request.surface.pins:
        pinned = request.catalog.rows(list(request.surface.pins))
        answers[PINNED] = Found(pinned, np.empty(0, np.float32))
        request.calls.record(PINNED, common_pb2.SOURCE_STATE_OK, 0.0)
    if len(offers) and not request.message.query:
        paid = offers.by_price(request.surface.source_limit)
        answers[CAMPAIGNS] = Found(paid, np.empty(0, np.float32))
        request.calls.record(CAMPAIGNS, common_pb2.SOURCE_STATE_OK, 0.0)
    joined = _joined(request, answers)
    if POPULAR not in sources and len(joined.rows) < ENOUGH_CANDIDATES:
        answers[POPULAR] = await _from(mesh, request, POPULAR, wanted)
        joined = _joined(request, answers)
    CANDIDATES.observe(len(joined.rows), surface)
    span = recorded_span()
    if span is not None:
        for source, proposed in joined.proposed.items():
            span.set_attribute(f"recmesh.candidates.{source}", len(proposed))
    return joined
