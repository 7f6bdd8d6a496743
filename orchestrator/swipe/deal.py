"""Deals a session's next card."""

from __future__ import annotations

import math

from recmesh.orchestrator.mesh import Mesh
from recmesh.orchestrator.recommend import recommend
from recmesh.orchestrator.swipe.session import SwipeSession
from recmesh.v1 import recommendation_pb2

SURFACE = "swipe"


async def deal(mesh: Mesh, session: SwipeSession) -> recommendation_pb2.RecommendResponse:
    """The page with one slot that is the session's next card; empty: no card is left.

    Takes the surface's deadline at most.

    Raises:
        InvalidRequestError: the policy has no surface ``swipe``.
    """
    if session.full:
        return recommendation_pb2.RecommendResponse(request_id=session.request_id)
    request = recommendation_pb2.RecommendRequest(
        request_id=session.request_id,
        surface=SURFACE,
        user_id=session.user_id,
        page_size=1,
        exclude_item_ids=[card.item_id for card in session.dealt],
    )
    return await recommend(mesh, request, math.inf, session)
