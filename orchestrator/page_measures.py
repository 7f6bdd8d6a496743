"""Counts what a page turned out to be: what it lacked, who pays for it, how much is the same."""

from __future__ import annotations

from recmesh.orchestrator.admission import Admitted
from recmesh.storage.telemetry.mesh_measures import (
    DEGRADED_PAGES,
    DEGRADED_RESPONSES,
    SPONSORED_SHARE,
    TOPIC_SHARE,
)
from recmesh.storage.telemetry.spans import recorded_span
from recmesh.v1 import recommendation_pb2


def measure(request: Admitted, page: recommendation_pb2.RecommendResponse) -> None:
    """Counts one page as its caller gets it."""
    surface = request.message.surface
    if page.degraded:
        DEGRADED_PAGES.add(surface)
        for lack in page.degradations:
            DEGRADED_RESPONSES.add(surface, lack.component)
    slots = len(page.recommendations)
    if not slots:
        return
    paid = sum(1 for slot in page.recommendations if slot.sponsorship.campaign_id)
    SPONSORED_SHARE.observe(paid / slots, surface)
    rows = request.catalog.rows([slot.item_id for slot in page.recommendations])
    different = len({bits.tobytes() for bits in request.catalog.topics.bits[rows]})
    TOPIC_SHARE.observe(different / slots, surface)
    span = recorded_span()
    if span is not None:
        span.set_attribute("recmesh.slots", slots)
        span.set_attribute("recmesh.degraded", page.degraded)
