"""Records what users do with cards, beside the dealing of the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from recmesh.deployments.catalog_log_client import CatalogLogClient
from recmesh.storage.errors import InvalidRequestError, RecMeshError
from recmesh.v1 import feedback_pb2

log = structlog.get_logger(__name__)

CALLER = "recmesh-swipe"
"""Half of the idempotency key of these events."""
MOST_WAITING = 10_000
"""Actions that may wait for the writer to come back; then the oldest are given up."""
MOST_TOGETHER = 250
"""Actions in a message; each is two events at most."""
TIMEOUT_S = 2.0
RETRY_S = 0.5
LAST_TRY_S = 2.0
"""How long closing waits for what is not recorded yet."""


@dataclass(frozen=True, slots=True)
class _Action:
    events: Sequence[feedback_pb2.Event]
    recorded: asyncio.Future[bool]

    def tell(self, recorded: bool) -> None:
        if not self.recorded.done():
            self.recorded.set_result(recorded)


class ActionRecorder:
    """Sends events to the writer in their order, and again until it answers.

    Belongs to the event loop it is made in. Ids make events idempotent, so that what may have been
    written is sent again.
    """

    def __init__(self, client: CatalogLogClient) -> None:
        """Begins to send; ``client`` must outlive this."""
        self._client = client
        self._waiting: deque[_Action] = deque()
        self._sent: list[_Action] = []
        self._news = asyncio.Event()
        self._failing = False
        self._sending = asyncio.create_task(self._send_for_ever(), name="record-actions")

    def add(self, events: Sequence[feedback_pb2.Event]) -> asyncio.Future[bool]:
        """Events of one action.

        Returns:
            What becomes true once they are durable, and false as soon as the writer cannot be
            reached; they are sent again all the same.
        """
        action = _Action(events, asyncio.get_running_loop().create_future())
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft().tell(False)
            log.error("action_lost", reason=f"{MOST_WAITING} actions wait for the writer")
        self._waiting.append(action)
        if self._failing:
            action.tell(False)
        self._news.set()
        return action.recorded

    async def _send_for_ever(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._sent or self._waiting:
                if not await self._sent_next():
                    await asyncio.sleep(RETRY_S)

    async def _sent_next(self) -> bool:
        if not self._sent:
            count = min(len(self._waiting), MOST_TOGETHER)
            self._sent = [self._waiting.popleft() for _ in range(count)]
        events = [event for action in self._sent for event in action.events]
        request = feedback_pb2.RecordEventsRequest(caller=CALLER, events=events)
        recorded = True
        try:
            await self._client.record_events(request, timeout_s=TIMEOUT_S)
        except InvalidRequestError as error:
            # Sent again it would be refused again, and all behind it would wait for ever.
            log.error("actions_refused", count=len(self._sent), reason=str(error))
            recorded = False
        except RecMeshError as error:
            return self._failed(str(error))
        except Exception as error:
            log.exception("recording_failed")
            return self._failed(type(error).__name__)
        self._failing = False
        for action in self._sent:
            action.tell(recorded)
        self._sent = []
        return True

    def _failed(self, reason: str) -> bool:
        if not self._failing:
            log.warning("actions_not_recorded", reason=reason)
        self._failing = True
        for action in (*self._sent, *self._waiting):
            action.tell(False)
        return False

    async def close(self) -> None:
        """Sends what waits, for two seconds at most, then ends."""
        waited_for = [action.recorded for action in (*self._sent, *self._waiting)]
        if waited_for:
            await asyncio.wait(waited_for, timeout=LAST_TRY_S)
        lost = len(self._sent) + len(self._waiting)
        if lost:
            log.error("actions_lost", count=lost, reason="the writer did not answer")
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)
