"""One request, top to bottom: admit, retrieve, filter, score, blend, select, answer, record."""

from __future__ import annotations

import time

from recmesh.orchestrator.admission import Admitted, admit
from recmesh.orchestrator.answer import answer, empty_page
from recmesh.orchestrator.blending import blend
from recmesh.orchestrator.campaigns.ledger_holder import LedgerHolder
from recmesh.orchestrator.campaigns.offers import CAMPAIGNS, offers
from recmesh.orchestrator.campaigns.sponsored_slate import sponsored_slate
from recmesh.orchestrator.decisions.decision import Considered, Decision
from recmesh.orchestrator.eligibility import filter_candidates
from recmesh.orchestrator.experiments.drafted_page import drafted_page
from recmesh.orchestrator.mesh import Mesh
from recmesh.orchestrator.page_measures import measure
from recmesh.orchestrator.retrieval import retrieve
from recmesh.orchestrator.scoring import score
from recmesh.orchestrator.slate.request_columns import slate_candidates
from recmesh.orchestrator.snippets import snippets
from recmesh.orchestrator.stage import Stage
from recmesh.orchestrator.swipe.session import SwipeSession
from recmesh.v1 import recommendation_pb2


async def recommend(
    mesh: Mesh,
    message: recommendation_pb2.RecommendRequest,
    budget_s: float,
    session: SwipeSession | None = None,
) -> recommendation_pb2.RecommendResponse:
    """Fills one page.

    Args:
        mesh: models, index and snapshot to answer with.
        message: valid by the contract's static rules.
        budget_s: seconds until the caller's deadline; infinite when there is none.
        session: whose next card this page is; None: it is a page of its own.

    Raises:
        InvalidRequestError: the request breaks a rule; names the field.
        DeadlineError: the deadline leaves no time to answer.
    """
    with Stage("admit"):
        request = admit(mesh, message, budget_s, session)
    if message.validate_only:
        return empty_page(request)
    if request.rival is not None:
        page = await drafted_page(mesh, request, request.rival, _filled)
    else:
        page = await _filled(mesh, request)
    measure(request, page)
    return page


async def _filled(mesh: Mesh, request: Admitted) -> recommendation_pb2.RecommendResponse:
    with Stage("retrieve") as stage:
        offered = offers(mesh, request)
        candidates = await retrieve(mesh, request, offered)
        stage.left(len(candidates.rows))

    with Stage("filter") as stage:
        filtered = filter_candidates(
            request.catalog,
            candidates.rows,
            request.message,
            request.user,
            request.now_unix_s,
            hide_seen=request.surface.hide_seen,
            capped=offered.held_back,
        )
        rows = candidates.rows[filtered.kept]
        stage.left(len(rows))

    with Stage("score") as stage:
        scores = await score(mesh, request, candidates, filtered.kept)
        stage.left(len(rows))

    scored_s = time.monotonic()
    with Stage("blend") as stage:
        blended = blend(request, rows, scores, offered)
        stage.left(len(rows))

    with Stage("select") as stage:
        columns = slate_candidates(request, rows, blended.utility, offered)
        considered = Considered(
            request=request,
            candidates=candidates,
            filtered=filtered,
            scores=scores,
            offers=offered,
        )
        holder = LedgerHolder(mesh, request, considered)
        slate = await sponsored_slate(request, columns, blended.organic, rows, offered, holder)
        stage.left(len(slate.chosen) - request.offset)

    with Stage("answer"):
        page = rows[slate.chosen[request.offset :]]
        shown = await snippets(mesh, request, page.tolist(), candidates.read_as)
        page_answer = answer(request, candidates, rows, blended, slate, shown)

    mesh.own_work.took(time.monotonic() - scored_s - request.calls.waited_s(CAMPAIGNS))

    # Record.
    if mesh.decisions is not None and not holder.recorded:
        mesh.decisions.keep(Decision(considered, holder.attempts, slate, page_answer))
    mesh.shadows.mirror(request.calls.seen)
    return page_answer
