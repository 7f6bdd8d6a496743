"""``RecommendationService.Explain``: from the decision log, in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from recmesh.deployments.caller_surfaces import CallerSurfaces
from recmesh.deployments.grpc_service import Method
from recmesh.orchestrator.decisions.decision import Decision
from recmesh.orchestrator.decisions.explain import NOT_RETRIEVED, explain
from recmesh.orchestrator.mesh import Mesh
from recmesh.storage.errors import NotFoundError, OverloadedError, UnsupportedError
from recmesh.v1 import recommendation_pb2

MOST_WAITING = 8
"""Explanations that may wait for the one at work; more are refused."""
READ_TIMEOUT_S = 2.0


class ExplainMethods:
    """Belongs to one event loop. One explanation is made at a time: pages come first."""

    def __init__(self, mesh: Mesh, may: CallerSurfaces | None = None) -> None:
        """``may`` None: everybody may have pages of every surface explained."""
        self._mesh = mesh
        self._may = may or CallerSurfaces(None)
        self._turn = asyncio.Lock()
        self._waiting = 0

    @property
    def offered(self) -> Mapping[str, Method]:
        """By name in ``RecommendationService``."""
        return {"Explain": self.explain}

    async def explain(
        self, request: recommendation_pb2.ExplainRequest, remaining_s: float
    ) -> recommendation_pb2.ExplainResponse:
        """Explains items of a recorded request.

        Raises:
            NotFoundError: no decision of that request is kept, or not yet.
            ForbiddenError: it was a page of a surface that the caller was not given.
            OverloadedError: too many explanations wait.
            UnsupportedError: this mesh keeps no decisions.
            UnavailableError: the log does not answer.
        """
        if self._mesh.decisions is None:
            raise UnsupportedError("this mesh keeps no decisions, so it cannot explain any")
        if self._waiting >= MOST_WAITING:
            raise OverloadedError(f"{MOST_WAITING} explanations wait; try again later")
        self._waiting += 1
        try:
            pages = await self._mesh.decisions.find(
                request.request_id, timeout_s=min(remaining_s, READ_TIMEOUT_S)
            )
            if not pages:
                raise NotFoundError(
                    f"no decision of request {request.request_id!r} is kept; the newest are "
                    "recorded within a second, old ones are deleted"
                )
            for page in pages:
                self._may.check(page.considered.request.message.surface)
            async with self._turn:
                answer = await asyncio.to_thread(_explained, pages, list(request.item_ids))
            self._say_unknown(answer)
            return answer
        finally:
            self._waiting -= 1

    def _say_unknown(self, answer: recommendation_pb2.ExplainResponse) -> None:
        """A record knows its candidates; whether there is such an item, the catalogue knows."""
        snapshot = self._mesh.snapshot
        for item in answer.items:
            if item.outcome == NOT_RETRIEVED and not (
                item.item_id in snapshot.items.row_of or item.item_id in snapshot.users.row_of
            ):
                item.rule = "the catalogue has no such item now"


def _explained(pages: list[Decision], item_ids: list[str]) -> recommendation_pb2.ExplainResponse:
    return asyncio.run(explain(pages, item_ids))
