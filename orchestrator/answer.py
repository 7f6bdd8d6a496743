"""Stage 7: the page as the caller sees it, and what it lacks."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recmesh.orchestrator.admission import Admitted
from recmesh.orchestrator.blending import Blended
from recmesh.orchestrator.campaigns.offers import NOBODY
from recmesh.orchestrator.campaigns.sponsored_slate import SponsoredSlate
from recmesh.orchestrator.facets import facet
from recmesh.orchestrator.highlighting import Highlighted
from recmesh.orchestrator.index_source import VECTOR_INDEX
from recmesh.orchestrator.page_token import MAX_SLOTS, PageToken
from recmesh.orchestrator.retrieval import Candidates
from recmesh.orchestrator.snippets import Shown
from recmesh.v1 import common_pb2, recommendation_pb2

Int32 = npt.NDArray[np.int32]

REASONS = {
    "cf": "Colleagues with similar reading engaged with this",
    "behavioral": "Follows from what you read recently",
    "nlp": "Close in content to your interests",
    "vector-index": "Close in content to your interests",
    "network": "Engaged with in your professional network",
    "fresh": "Newly published",
    "popular": "Widely read at the moment",
    "pinned": "Chosen by the editors",
    "campaigns": "Sponsored",
}
"""One sentence for people, by source; the first source that proposed the item speaks."""
FOUND = "Matches what you searched for"


def _reason(sources: Sequence[str], query: str) -> str:
    if not sources:
        return "As asked"
    if query and sources[0] == VECTOR_INDEX:
        return FOUND
    return REASONS.get(sources[0], "Proposed")


def _highlighted(text: Highlighted) -> recommendation_pb2.HighlightedText:
    spans = [recommendation_pb2.Highlight(start=start, end=end) for start, end in text.spans]
    return recommendation_pb2.HighlightedText(text=text.text, highlights=spans)


def _attribution_token(
    request: Admitted, slots: Sequence[recommendation_pb2.Recommendation]
) -> str:
    return request.tokens.issue(
        request_id=request.request_id,
        surface=request.message.surface,
        policy_version=request.snapshot.policy.version,
        # Not the request's own time, which its caller may choose: tokens expire.
        issued_at_unix_s=int(time.time()),
        user_id=request.message.user_id,
        item_ids=[slot.item_id for slot in slots],
        first_rank=request.offset + 1,
        campaigns={s.rank: s.sponsorship.campaign_id for s in slots if s.sponsorship.campaign_id},
        arms=request.arms,
    )


def _effect(status: common_pb2.SourceStatus) -> str:
    if not status.HasField("answer_age"):
        return "the page does without its opinion"
    return f"the page uses what it proposed {status.answer_age.ToSeconds()} s ago"


def _describe_state(response: recommendation_pb2.RecommendResponse, request: Admitted) -> None:
    """Sources, versions and degradations: what the page was made with, and without."""
    for name, status in request.calls.statuses.items():
        response.sources.append(status)
        if status.state != common_pb2.SOURCE_STATE_OK:
            response.degradations.add(component=name, reason=status.detail, effect=_effect(status))
        elif name in request.surface.model_weights and status.version:
            response.versions.models[name] = status.version
    response.degraded = len(response.degradations) > 0
    response.versions.policy = request.snapshot.policy.version
    response.versions.catalog = request.catalog.version
    response.versions.experiment_arms.update(request.arms)
    if request.snapshot.embedding is not None and "vector-index" in request.calls.statuses:
        response.versions.embedding = request.snapshot.embedding.version
    response.latency.FromNanoseconds(int((time.monotonic() - request.started_s) * 1e9))


def _disclose(
    slot: recommendation_pb2.Recommendation, request: Admitted, row: int, paid_by: int
) -> None:
    book = request.snapshot.campaigns
    if paid_by != NOBODY:
        slot.sponsorship.campaign_id = book.campaign_ids[paid_by]
        slot.sponsorship.disclosure = book.disclosures[paid_by]
    elif request.catalog.sponsors[row]:
        slot.sponsorship.disclosure = f"Sponsored by {request.catalog.sponsors[row]}"


def empty_page(request: Admitted) -> recommendation_pb2.RecommendResponse:
    """The answer to a request that was only to be checked."""
    response = recommendation_pb2.RecommendResponse(request_id=request.request_id)
    _describe_state(response, request)
    return response


def answer(
    request: Admitted,
    candidates: Candidates,
    rows: Int32,
    blended: Blended,
    slate: SponsoredSlate,
    shown: Sequence[Shown],
) -> recommendation_pb2.RecommendResponse:
    """Writes the page.

    Args:
        request: what was asked.
        candidates: what was retrieved.
        rows: catalog rows of the candidates that could be shown ``[n]``.
        blended: what they are worth ``[n]``.
        slate: positions among ``rows``, and who pays for them.
        shown: titles and snippets of the page's items; empty: they were not asked for.
    """
    response = recommendation_pb2.RecommendResponse(
        request_id=request.request_id,
        relaxed_rules=slate.relaxed,
        corrected_query=candidates.read_as,
        facets=[facet(request.catalog, rows, field) for field in request.message.facets],
    )
    page = slate.chosen[request.offset :]
    for rank, position in enumerate(page.tolist(), start=request.offset + 1):
        row = int(rows[position])
        slot = response.recommendations.add(
            item_id=request.catalog.item_ids[row], rank=rank, score=float(blended.utility[position])
        )
        _disclose(slot, request, row, int(slate.paid_by[position]))
        if request.message.explain:
            for name, column in blended.objectives.items():
                slot.objective_scores[name] = float(column[position])
            slot.sources.extend(
                name for name, proposed in candidates.proposed.items() if row in proposed
            )
            slot.reason = _reason(slot.sources, request.message.query)
    for slot, text in zip(response.recommendations, shown, strict=bool(shown)):
        slot.title.CopyFrom(_highlighted(text.title))
        slot.snippet.CopyFrom(_highlighted(text.snippet))
    response.attribution_token = _attribution_token(request, response.recommendations)
    last = request.offset + len(page)
    if len(page) == request.page_size and last < min(len(rows), MAX_SLOTS):
        response.next_page_token = PageToken(request.request_id, last).encode()
    _describe_state(response, request)
    return response
