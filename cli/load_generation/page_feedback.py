"""What the doctors of a share of the pages send back: they saw every slot, and some clicked."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter

import grpc.aio
import numpy as np

from recmesh.cli.load_generation.latency_record import OK, LatencyRecord
from recmesh.v1 import common_pb2, feedback_pb2, feedback_pb2_grpc, recommendation_pb2

CALLER = "recmesh-load"
CLICK_SHARE = 0.1
"""Of the slots that were seen."""


class PageFeedback:
    """Sends one batch of events a chosen page, beside the requests."""

    def __init__(self, share: float, deadline_s: float, rng: np.random.Generator) -> None:
        self._share = share
        self._deadline_s = deadline_s
        self._rng = rng
        self._sending: set[asyncio.Task[None]] = set()
        self._run = uuid.uuid4().hex
        self.batches = LatencyRecord(deadline_s)
        """Latency from when a batch was sent: it follows its page, at no time of its own."""
        self.events: Counter[str] = Counter()
        """Outcomes."""

    def shown(
        self,
        request: recommendation_pb2.RecommendRequest,
        page: recommendation_pb2.RecommendResponse,
        channel: grpc.aio.Channel,
    ) -> None:
        """Perhaps sends back what a doctor did with a page."""
        if page.recommendations and self._rng.random() < self._share:
            task = asyncio.create_task(self._send(self._batch(request, page), channel))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    def _batch(
        self,
        request: recommendation_pb2.RecommendRequest,
        page: recommendation_pb2.RecommendResponse,
    ) -> feedback_pb2.RecordEventsRequest:
        batch = feedback_pb2.RecordEventsRequest(caller=CALLER)
        clicks = self._rng.random(len(page.recommendations)) < CLICK_SHARE
        for slot, clicked in zip(page.recommendations, clicks.tolist(), strict=True):
            seen = [common_pb2.EVENT_TYPE_IMPRESSION]
            for event_type in [*seen, common_pb2.EVENT_TYPE_CLICK] if clicked else seen:
                event = batch.events.add(
                    event_id=f"{self._run}-{page.request_id}-{slot.rank}-{event_type}",
                    event_type=event_type,
                    user_id=request.user_id,
                    item_id=slot.item_id,
                    surface=request.surface,
                    attribution_token=page.attribution_token,
                    rank=slot.rank,
                )
                event.time.GetCurrentTime()
        return batch

    async def _send(
        self, batch: feedback_pb2.RecordEventsRequest, channel: grpc.aio.Channel
    ) -> None:
        clock = asyncio.get_running_loop().time
        sent_s, code = clock(), OK
        try:
            stub = feedback_pb2_grpc.FeedbackServiceStub(channel)
            answer = await stub.RecordEvents(batch, timeout=self._deadline_s)
            self.events.update(
                feedback_pb2.EventStatus.Name(outcome.status).removeprefix("EVENT_STATUS_")
                for outcome in answer.outcomes
            )
        except grpc.aio.AioRpcError as error:
            code = error.code().name
        self.batches.add(code, clock() - sent_s)

    def forget(self) -> None:
        """Counts from now on."""
        self.batches = LatencyRecord(self._deadline_s)
        self.events.clear()

    async def sent(self) -> None:
        """Returns once every batch has ended."""
        if self._sending:
            await asyncio.wait(self._sending)
