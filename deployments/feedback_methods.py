"""The methods of ``FeedbackService`` on one event log."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import TypeAlias

from recmesh.deployments.caller_events import refuse_events_of_others
from recmesh.deployments.event_changes import events_message
from recmesh.deployments.event_check import EventCheck, refuse_unwritable
from recmesh.deployments.grpc_service import Method, StreamMethod
from recmesh.storage.event_log import EventLog, Outcome
from recmesh.storage.group_commit import GroupCommit
from recmesh.v1 import catalog_log_pb2, feedback_pb2

Events: TypeAlias = Sequence[tuple[str, feedback_pb2.Event]]
"""Callers and their events."""

MOST_WAITING = 256
"""Messages that may wait for the disk; more are refused."""
MOST_TOGETHER = 1000
"""Events that share a transaction, but for the last message's, which is not cut."""
STREAM_EVENTS = 128
"""Events of a stream that may wait; then its caller is held back by HTTP/2's flow control."""
STREAMS_AT_ONCE = 64
"""Streams that wait for the disk at a time; others wait their turn and refuse nobody."""

_STATUS = {
    status: feedback_pb2.EventStatus.Value(f"EVENT_STATUS_{status}")
    for status in ("ACCEPTED", "DUPLICATE", "QUARANTINED")
}


class FeedbackMethods:
    """Belongs to one event loop. Events are answered once they are durable."""

    def __init__(
        self, log: EventLog, check: EventCheck, clock: Callable[[], float] = time.time
    ) -> None:
        self.log = log
        self._check = check
        self._clock = clock
        self._commits: GroupCommit[Events] = GroupCommit(
            self._record, most_waiting=MOST_WAITING, most_together=MOST_TOGETHER, weight=len
        )
        self._turns = asyncio.Semaphore(STREAMS_AT_ONCE)

    @property
    def offered(self) -> Mapping[str, Method]:
        """By name in ``FeedbackService``."""
        return {"RecordEvents": self.record_events}

    @property
    def streams(self) -> Mapping[str, StreamMethod]:
        """By name in ``FeedbackService``."""
        return {"StreamEvents": self._stream_events}

    async def read_events(
        self, request: catalog_log_pb2.ReadEventsRequest, _: float
    ) -> catalog_log_pb2.ReadEventsResponse:
        """``CatalogLogService.ReadEvents``."""
        return await asyncio.to_thread(events_message, self.log, request.after_seq)

    def _record(self, groups: Sequence[Events]) -> list[list[Outcome]]:
        """Checks and writes all groups at once, in the committing thread."""
        now_unix_s = self._clock()
        events = self._check.check(list(itertools.chain(*groups)), now_unix_s)
        outcomes = iter(self.log.write(events, int(1000 * now_unix_s)))
        return [list(itertools.islice(outcomes, len(group))) for group in groups]

    async def _recorded(self, events: Events) -> list[feedback_pb2.EventOutcome]:
        outcomes = await asyncio.wrap_future(self._commits.submit(events))
        return [
            feedback_pb2.EventOutcome(
                event_id=event.event_id, status=_STATUS[outcome.status.name], reason=outcome.reason
            )
            for (_, event), outcome in zip(events, outcomes, strict=True)
        ]

    async def record_events(
        self, request: feedback_pb2.RecordEventsRequest, _: float
    ) -> feedback_pb2.RecordEventsResponse:
        """``FeedbackService.RecordEvents``."""
        refuse_events_of_others(request.caller)
        refuse_unwritable("events[{}]", request.caller, request.events)
        events = [(request.caller, event) for event in request.events]
        return feedback_pb2.RecordEventsResponse(outcomes=await self._recorded(events))

    async def _stream_events(
        self, requests: AsyncIterator[feedback_pb2.StreamEventsRequest]
    ) -> AsyncGenerator[feedback_pb2.StreamEventsResponse, None]:
        """What has come in while the disk worked is written at once, and answered in order."""
        waiting: asyncio.Queue[feedback_pb2.StreamEventsRequest | Exception | None] = asyncio.Queue(
            STREAM_EVENTS
        )
        reading = asyncio.create_task(_read(requests, waiting), name="read-events")
        try:
            ended: Exception | None = None
            open_ = True
            while open_:
                events: list[tuple[str, feedback_pb2.Event]] = []
                while open_ and (not events or not waiting.empty()):
                    request = await waiting.get()
                    if isinstance(request, feedback_pb2.StreamEventsRequest):
                        events.append((request.caller, request.event))
                    else:
                        ended, open_ = request, False
                if events:
                    async with self._turns:
                        outcomes = await self._recorded(events)
                    for outcome in outcomes:
                        yield feedback_pb2.StreamEventsResponse(outcome=outcome)
            if ended is not None:
                raise ended
        finally:
            reading.cancel()

    def close(self) -> None:
        """Writes what waits, then ends. Blocks."""
        self._commits.close()


async def _read(
    requests: AsyncIterator[feedback_pb2.StreamEventsRequest],
    into: asyncio.Queue[feedback_pb2.StreamEventsRequest | Exception | None],
) -> None:
    """Ends with None, or with what ends the stream."""
    try:
        async for request in requests:
            refuse_events_of_others(request.caller)
            refuse_unwritable("event", request.caller, [request.event])
            await into.put(request)
    except Exception as error:  # noqa: BLE001 - it ends the stream where its turn comes
        await into.put(error)
    else:
        await into.put(None)
