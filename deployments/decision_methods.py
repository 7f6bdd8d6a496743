"""The methods of ``DecisionLogService`` on one log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from recmesh.deployments.grpc_service import Method
from recmesh.storage.decision_log import DecisionLog
from recmesh.storage.group_commit import GroupCommit
from recmesh.v1 import decision_log_pb2

log = structlog.get_logger(__name__)

MOST_WAITING = 64
"""Messages that may wait for the disk; more are refused."""
MOST_TOGETHER = 200
"""Records that share a transaction, but for the last message's, which is not cut."""


class DecisionMethods:
    """Belongs to one event loop. Records are answered once they are durable."""

    def __init__(self, decisions: DecisionLog, clock: Callable[[], float] = time.time) -> None:
        self.log = decisions
        self._clock = clock
        self._commits: GroupCommit[decision_log_pb2.RecordDecisionsRequest] = GroupCommit(
            self._write,
            most_waiting=MOST_WAITING,
            most_together=MOST_TOGETHER,
            weight=lambda request: len(request.decisions),
        )

    @property
    def offered(self) -> Mapping[str, Method]:
        """By name in ``DecisionLogService``."""
        return {"RecordDecisions": self.record_decisions, "ReadDecisions": self.read_decisions}

    async def record_decisions(
        self, request: decision_log_pb2.RecordDecisionsRequest, _: float
    ) -> decision_log_pb2.RecordDecisionsResponse:
        """Keeps records."""
        await asyncio.wrap_future(self._commits.submit(request))
        return decision_log_pb2.RecordDecisionsResponse()

    def _write(self, requests: Sequence[decision_log_pb2.RecordDecisionsRequest]) -> list[None]:
        decisions = [decision for request in requests for decision in request.decisions]
        lost = sum(request.lost for request in requests)
        self.log.write(decisions, lost, int(1000 * self._clock()))
        if lost:
            log.error("decisions_lost", count=lost)
        return [None] * len(requests)

    async def read_decisions(
        self, request: decision_log_pb2.ReadDecisionsRequest, _: float
    ) -> decision_log_pb2.ReadDecisionsResponse:
        """All records of a request, in the order in which they were made."""
        found = await asyncio.to_thread(self.log.of_request, request.request_id)
        return decision_log_pb2.ReadDecisionsResponse(records=[one.record for one in found])

    def close(self) -> None:
        """Writes what waits, then ends. Blocks."""
        self._commits.close()
