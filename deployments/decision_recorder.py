"""Takes an orchestrator's decisions to the log, off the way of its requests."""

from __future__ import annotations

import asyncio
from collections import deque

import structlog

from recmesh.deployments.catalog_log_client import CatalogLogClient
from recmesh.orchestrator.decisions.decision import Decision, latest_pages
from recmesh.orchestrator.decisions.decision_record import opened, sealed
from recmesh.storage.errors import RecMeshError
from recmesh.storage.telemetry.mesh_measures import DECISIONS_LOST
from recmesh.v1 import decision_log_pb2

log = structlog.get_logger(__name__)

MOST_WAITING = 1000
"""Decisions that wait in memory, some 100 kB each; then the oldest are lost."""
MESSAGE_BYTES = 1024 * 1024
"""A message with as many is full; it may have four times as many."""
EVERY_S = 0.25
"""How long a decision waits for others to go with."""
TIMEOUT_S = 2.0
RETRY_S = 0.5
LAST_TRY_S = 2.0
"""How long closing waits for what is not recorded yet."""


class DecisionRecorder:
    """An adapter of the decision log's port. Belongs to the event loop it is made in.

    Decisions are made into bytes and sent in the background. Ids make them idempotent, so what may
    have been written is sent again.
    """

    def __init__(self, client: CatalogLogClient) -> None:
        """Begins to send; ``client`` must outlive this."""
        self._client = client
        self._waiting: deque[Decision] = deque()
        self._sent: list[decision_log_pb2.SealedDecision] = []
        self._news = asyncio.Event()
        self._failing = False
        self._closing = False
        self._lost = 0
        self._sending = asyncio.create_task(self._send_for_ever(), name="record-decisions")

    def keep(self, decision: Decision) -> None:
        """See the port."""
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self._lost += 1
            DECISIONS_LOST.add()
        self._waiting.append(decision)
        self._news.set()

    async def find(self, request_id: str, *, timeout_s: float) -> list[Decision]:
        """See the port."""
        records = await self._client.read_decisions(request_id, timeout_s=timeout_s)
        return latest_pages([opened(record) for record in records])

    async def _send_for_ever(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if not self._closing:
                await asyncio.sleep(EVERY_S)
            while self._sent or self._waiting:
                if not await self._sent_next():
                    await asyncio.sleep(RETRY_S)
            if self._closing:
                return

    def _seal_next(self) -> list[decision_log_pb2.SealedDecision]:
        some: list[decision_log_pb2.SealedDecision] = []
        size = 0
        while self._waiting and size < MESSAGE_BYTES:
            some.append(sealed(self._waiting.popleft()))
            size += len(some[-1].record)
        return some

    async def _sent_next(self) -> bool:
        if not self._sent:
            self._sent = await asyncio.to_thread(self._seal_next)
        lost = self._lost
        request = decision_log_pb2.RecordDecisionsRequest(decisions=self._sent, lost=lost)
        try:
            await self._client.record_decisions(request, timeout_s=TIMEOUT_S)
        except RecMeshError as error:
            if not self._failing:
                log.warning("decisions_not_recorded", reason=str(error))
            self._failing = True
            return False
        if self._failing:
            log.warning("decisions_recorded_again", lost=lost)
        self._failing = False
        self._lost -= lost
        self._sent = []
        return True

    async def close(self) -> None:
        """See the port."""
        self._closing = True
        self._news.set()
        await asyncio.wait([self._sending], timeout=LAST_TRY_S)
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)
        left = len(self._sent) + len(self._waiting) + self._lost
        if left:
            # Those counted before were given up then.
            DECISIONS_LOST.add(amount=left - self._lost)
            log.error("decisions_lost", count=left, reason="the log did not answer")
